"""Every metric that is sent, one row each."""
