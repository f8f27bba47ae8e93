"""Tables: columns of numbers, texts and dates as vectors, and back; where columns come from."""
