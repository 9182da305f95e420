"""The spine joined: the order of a request's steps lives here only."""
