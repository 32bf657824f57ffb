"""The one place that makes HTTP clients, so that certificates, proxies and redirects mean the same for all of them.

`http_clients` makes those of httpx, and `azure_transport` that of Azure's SDKs. tests/test_http_clients.py forbids
others.
"""
