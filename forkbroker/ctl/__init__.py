"""The command stomp-brokerctl, which administers a broker. It needs nothing but the standard library."""
