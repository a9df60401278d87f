"""What objects take of ResourceQuotas: the same for the API server, which charges, as for who counts."""
