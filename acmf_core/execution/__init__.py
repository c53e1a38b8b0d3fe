"""Layer 5: clocks, the feed of past bars, order names, and the exchanges that orders go to."""
