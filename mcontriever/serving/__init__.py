"""The server: requests, their limits, the queue in which they wait, their answers, and the page."""
