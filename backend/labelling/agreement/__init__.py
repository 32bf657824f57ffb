"""How much the answers of a project's annotators weigh, and what another way of agreement would change."""
