"""Who may do what: tenants, tokens and the principals behind them, and the audit of what they did."""
