"""When things happen: the commit of batches, and the services that wake up on their own; `engine` puts them together."""
