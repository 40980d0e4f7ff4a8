"""From a collected report to the collector."""
