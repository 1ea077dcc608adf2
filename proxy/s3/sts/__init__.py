"""The protocol of AWS's Security Token Service, as far as it is served: requests, answers, tokens, web identities. Pure."""
