"""What is built once and kept: recipes, the store that has their results by content, Debian trees."""
