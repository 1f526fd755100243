"""Settings, with the names of the specification's `WorkflowEngineConfig`.

Read from the environment (`PLIERS_DATABASE__URL`, `PLIERS_EXECUTION__BATCH_SIZE_MAX` …) and from a `.env` file. Every
setting has a default that serves; durations are seconds.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class DatabaseSettings(BaseModel):
    """Where PostgreSQL is (spec: `database`)."""

    #: a DSN; empty: the embedded PostgreSQL is started
    url: str = ""
    #: a DSN that leads to PostgreSQL itself, for LISTEN, where `url` goes through a pooler; empty: `url` does
    direct_url: str = ""
    #: connections for reading; the commit pipeline has its own on top
    max_connections: int = Field(10, ge=1, le=1000)
    connection_timeout: float = Field(10, gt=0)
    #: PostgreSQL's statement_timeout for writers and readers
    query_timeout: float = Field(10, gt=0)
    #: folder of the embedded PostgreSQL; empty: in the user's data folder
    embedded_folder: str = ""


class ExecutionSettings(BaseModel):
    """How commands are executed (spec: `execution`)."""

    #: commands in one batch
    batch_size_max: int = Field(256, ge=1, le=2000)
    #: batches in flight at once; each has a connection
    batches_in_flight: int = Field(3, ge=1, le=16)
    #: commands of one instance that fold into one write
    fold_max: int = Field(256, ge=1, le=2000)
    #: commands that may wait; more are answered 503
    queue_length_max: int = Field(5000, ge=1)
    #: age of the oldest waiting command beyond which new ones are answered 503
    queue_age_max: float = Field(5, gt=0)
    #: how long the outcome of a command may stay unknown while the database is away, before its caller is told so
    default_timeout: float = Field(30, gt=0)
    #: interpreter steps a command may take inside a batch (about 5 ms)
    budget_steps: int = Field(20_000, ge=100)
    #: and outside it, alone in a process of its own
    budget_steps_alone: int = Field(2_000_000, ge=100)
    #: charts heavier than this are always interpreted alone
    chart_weight_max: int = Field(5_000, ge=1)
    #: seconds an Idempotency-Key is remembered
    idempotency_ttl: float = Field(86_400, gt=0)
    #: seconds a step may run on a worker, where its definition says nothing shorter (spec: `maxStepExecutionTime`)
    max_step_execution_time: float = Field(300, gt=0)
    #: instances of one tenant that may be under way at once, the same on every node; more are started as `pending`, and begin in
    #: the order of their starts as soon as there is room. 0: any number
    max_concurrent_instances: int = Field(0, ge=0)
    #: attempts at a step that is done outside, where its definition says nothing else (spec: `retryAttempts`)
    retry_attempts: int = Field(3, ge=1, le=100)
    #: timers claimed at once
    timer_batch_size: int = Field(500, ge=1, le=5000)
    #: how often due timers are looked for when nothing wakes the dispatcher
    timer_poll: float = Field(5.0, gt=0)
    timer_lease: float = Field(30, gt=1)

    @property
    def connections_max(self) -> int:
        """Connections for writing: those of batches in flight, and some for the services beside them."""
        return self.batches_in_flight + 6


class NodeSettings(BaseModel):
    """This process among the others on the same database."""

    #: `api` answers requests, `worker` does what is due (timers, upkeep), `all` both
    role: Literal["api", "worker", "all"] = "all"
    #: how it is called in health and leases; empty: host and process id
    name: str = Field("", max_length=100)
    #: seconds between two heartbeats
    heartbeat: float = Field(5, gt=0)
    #: silence after which the others take a node for dead
    silent_after: float = Field(30, gt=0)
    #: seconds between being told to stop, when `/health/ready` turns to 503, and closing the port: as long as your load
    #: balancer needs to notice
    drain_delay: float = Field(0.5, ge=0)
    #: seconds that running work may take to finish when the node stops; what takes longer is given back
    drain_grace: float = Field(20, ge=0)

    @model_validator(mode="after")
    def _outlives_its_heartbeat(self) -> Self:
        if self.silent_after <= self.heartbeat:
            raise ValueError("silent_after must be longer than heartbeat, or nodes take each other for dead")
        return self


class FeedSettings(BaseModel):
    """How the history is read by those who are told of it."""

    #: how often horizon, rows and lanes are looked at when nothing wakes their services
    poll: float = Field(1.0, gt=0)
    #: how long a lane of a reader stays with a node that has fallen silent
    lease: float = Field(15, ge=5)
    #: rows of the history kept in memory for readers that keep up, and their size in characters
    window_rows_max: int = Field(10_000, ge=100)
    window_size_max: int = Field(33_554_432, ge=1_048_576)


class EventSettings(BaseModel):
    """Events from outside."""

    #: seconds an event is kept for an instance that does not wait for it yet, unless it says so itself (`ttlseconds`)
    ttl: int = Field(3600, ge=0, le=2_592_000)
    #: seconds an event's source and id are known, at least: what comes again is a duplicate
    dedupe_ttl: float = Field(604_800, ge=60)
    #: seconds a sender waits to hear what became of an event; what takes longer goes on by itself
    answer_within: float = Field(5, gt=0)
    #: events of the engine itself that may lead to each other without a person in between, before they act no more
    depth_max: int = Field(5, ge=0, le=1000)
    #: how often delayed triggers are looked for
    delayed_poll: float = Field(1.0, gt=0)


class StepsSettings(BaseModel):
    """Steps that a node runs: calls, plugins, scripts, notifications."""

    #: steps that run at once on one node
    concurrency: int = Field(32, ge=1, le=10_000)
    #: seconds without a heartbeat after which a step counts as lost
    lease: float = Field(30, gt=1)
    #: how often due steps are looked for when nothing wakes the worker
    poll: float = Field(5, gt=0)
    #: seconds that running steps have when a node stops; what is not done then is given back
    drain_grace: float = Field(10, ge=0)
    #: seconds between two looks for steps whose worker fell silent
    rescue_every: float = Field(5, gt=0)
    #: fetches of external tasks that may wait on one node at once (long poll), and how many of one tenant; more are
    #: answered 429
    waiting_fetches_max: int = Field(1000, ge=1)
    waiting_fetches_per_tenant_max: int = Field(500, ge=1)
    #: bytes of a step's output
    output_size_max: int = Field(262_144, ge=1024)
    #: failures in a row after which the calls to one target are held back
    breaker_failures: int = Field(5, ge=1)
    #: seconds for which they are held back, before one call tries again
    breaker_open: float = Field(30, gt=0)


class PluginSettings(BaseModel):
    """Plugins that are installed beside the engine."""

    #: ids that may run here, and that are imported at all (`acme.*`); as JSON
    allowed: tuple[str, ...] = ("*",)
    #: ids that may not; these win
    denied: tuple[str, ...] = ()
    #: threads for plugins that are neither asynchronous nor in a process of their own; while all are at work, other nodes take
    #: such steps
    threads: int = Field(32, ge=1, le=1000)


class NotificationSettings(BaseModel):
    """Telling people something."""

    #: address of the service that is handed messages for people (channel `webhook`)
    webhook_url: str = ""
    #: `whsec_…`: what messages are signed with, as Standard Webhooks has it
    webhook_secret: str = ""


class SubscriptionSettings(BaseModel):
    """How events are sent to those who have subscribed."""

    #: lanes of a subscription that says nothing else: so many events are under way at once
    lanes: int = Field(4, ge=1, le=64)
    #: by which a webhook's address may begin; as JSON
    webhook_schemes: tuple[Literal["https", "http"], ...] = ("https",)
    #: seconds for one call of a webhook
    webhook_timeout: float = Field(15, gt=0)
    #: seconds in which a broker must confirm an event
    publish_timeout: float = Field(10, gt=0)
    #: seconds before the first new attempt; doubled with each failure, and spread
    retry_delay_min: float = Field(1, gt=0)
    retry_delay_max: float = Field(600, gt=0)
    #: seconds of failing after which a subscription is disabled; 0: never
    disable_after: float = Field(259_200, ge=0)


class EventSourceSettings(BaseModel):
    """How brokers are read whose messages are events."""

    #: seconds in which a broker must answer
    timeout: float = Field(10, gt=0)
    #: seconds before the first new attempt after a failure; doubled with each, and spread
    retry_delay_min: float = Field(1, gt=0)
    retry_delay_max: float = Field(60, gt=0)
    #: messages that were no events, kept of one source, and for how many seconds
    rejects_max: int = Field(1000, ge=0, le=1_000_000)
    rejects_ttl: float = Field(2_592_000, gt=0)


class CacheSettings(BaseModel):
    """Compiled charts kept in memory (spec: `cache`)."""

    provider: Literal["memory"] = "memory"
    #: total weight (states, transitions, expressions) of the charts kept
    max_size: int = Field(200_000, ge=100)

    @field_validator("provider", mode="before")
    @classmethod
    def _in_memory(cls, provider: object) -> object:
        if provider == "redis":
            raise ValueError(
                "redis is not supported. What is cached are compiled charts, code that each node makes for itself from versions "
                "that never change, so there is nothing to share; set it to memory, or leave it out"
            )
        return provider


class MonitoringSettings(BaseModel):
    """When health raises an alarm (spec: `monitoring.alertThresholds`)."""

    #: milliseconds in which the database answers the simplest question
    database_latency_max: float = Field(200, gt=0)
    #: part of the database's connections that may be in use
    connections_share_max: float = Field(0.9, gt=0, le=1)
    #: seconds that the log's horizon may lie behind
    horizon_age_max: float = Field(15, gt=0)
    #: seconds that a reader of the log may be behind
    reader_lag_max: float = Field(60, gt=0)
    #: seconds that a job may be due without anybody taking it
    due_job_age_max: float = Field(60, gt=0)
    #: seconds that a node's clock may be off the database's
    clock_offset_max: float = Field(30, gt=0)
    #: seconds that a worker may be at a step; those that nodes run end sooner
    running_step_age_max: float = Field(86_400, gt=0)
    #: seconds that an event source may fail
    event_source_failing_max: float = Field(60, ge=0)
    #: seconds that an event may have come without being carried out
    owed_event_age_max: float = Field(180, gt=0)
    #: jobs that may be dead, waiting for an operator
    dead_jobs_max: int = Field(0, ge=0)
    #: rows that may lie in the log's default partition
    stray_history_rows_max: int = Field(0, ge=0)


class SecuritySettings(BaseModel):
    """Tokens and audit (spec: `security`)."""

    #: denied attempts are written to the audit log
    enable_audit_logging: bool = True
    #: seconds a token's check may be reused; a token revoked on another node is refused after that
    token_cache_ttl: float = Field(5, ge=0)


class OutboundSettings(BaseModel):
    """Calls to other servers: HTTP steps, webhooks, plugins."""

    #: addresses of this machine and its networks may be called; false: only what is public, and `allowed_hosts`
    allow_private_networks: bool = False
    #: hosts (`hooks.example.com`, `*.example.com`, with `:PORT`) and networks (`10.20.0.0/16`) that may be called although they are not public; as JSON
    allowed_hosts: tuple[str, ...] = ()
    #: hosts and networks that may not be called; these win
    denied_hosts: tuple[str, ...] = ()
    #: seconds for a connection
    connect_timeout: float = Field(5, gt=0)
    #: seconds for a whole exchange, where a step or webhook says nothing else
    request_timeout: float = Field(30, gt=0)
    #: bytes of an answer, unpacked
    response_size_max: int = Field(1_048_576, ge=1024)
    #: connections at once
    connections_max: int = Field(100, ge=1, le=10_000)


class ServerSettings(BaseModel):
    """The HTTP server."""

    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    #: nodes that `pliers serve` runs on this address, each a process of its own: one for each core is a good number
    processes: int = Field(1, ge=1, le=64)
    #: seconds after which one of several nodes that has stopped working without ending is killed and started again, 5 at the
    #: least; 0: never
    hung_after: float = Field(30.0, ge=0, allow_inf_nan=False)
    #: where the world reaches this engine, for the sources of its events: `https://workflows.example.com`
    public_url: str = ""
    #: seconds for the whole head of a request, a new connection's first one included, and over which a body has to come, or
    #: an answer to be taken, at 500 bytes a second; then 408, and the connection is closed
    receive_timeout: float = Field(30.0, gt=0, allow_inf_nan=False)
    #: bytes of a request body
    body_size_max: int = Field(1_048_576, ge=1024)

    @field_validator("hung_after")
    @classmethod
    def _longer_than_work(cls, seconds: float) -> float:
        if 0 < seconds < 5:
            raise ValueError(
                "a node that is merely busy may say nothing for some seconds; set it to 5 or more, or to 0 for never"
            )
        return seconds


class Settings(BaseSettings):
    """All settings of a node."""

    model_config = SettingsConfigDict(env_prefix="PLIERS_", env_nested_delimiter="__", env_file=".env", extra="ignore")

    database: DatabaseSettings = DatabaseSettings()
    execution: ExecutionSettings = ExecutionSettings()
    node: NodeSettings = NodeSettings()
    steps: StepsSettings = StepsSettings()
    plugins: PluginSettings = PluginSettings()
    notifications: NotificationSettings = NotificationSettings()
    feed: FeedSettings = FeedSettings()
    subscriptions: SubscriptionSettings = SubscriptionSettings()
    events: EventSettings = EventSettings()
    event_sources: EventSourceSettings = EventSourceSettings()
    cache: CacheSettings = CacheSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    security: SecuritySettings = SecuritySettings()
    outbound: OutboundSettings = OutboundSettings()
    server: ServerSettings = ServerSettings()

    @property
    def connections_max(self) -> int:
        """Connections to PostgreSQL that a node has at most: for writing, for reading, and one to listen."""
        return self.execution.connections_max + self.database.max_connections + 1

    @property
    def connections_of_all(self) -> int:
        """The same for all nodes of `pliers serve`."""
        return self.server.processes * self.connections_max
