"""Containers (.sif): declared, built by their routes, inspected, converted, signed and tried."""
