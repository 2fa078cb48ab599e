"""The provider `baidu`: elastic network interfaces and HAVIPs of Baidu AI Cloud, through the vendor's SDK."""

from proxypool.providers.baidu.provider import create

__all__ = ["create"]
