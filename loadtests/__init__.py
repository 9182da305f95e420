"""Load tests of the gateway: they speak to it over sockets and never reach into it."""
