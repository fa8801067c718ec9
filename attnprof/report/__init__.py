"""Records to text. Nothing here measures, prints or imports torch."""
