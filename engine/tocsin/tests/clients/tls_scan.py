"""Scans a TLS server as an auditor would, with sslyze, and prints what it accepts as one line of JSON.

Usage: tls_scan.py HOST PORT
Versions with their suites, the curves of the key exchange, the certificate as it was sent, and what is known
to be wrong with servers: compression, renegotiation, downgrades, early data, Heartbleed, ROBOT, CCS injection.
"""

import json
import sys

from sslyze import (
    ScanCommand, Scanner, ServerNetworkConfiguration, ServerNetworkLocation, ServerScanRequest,
)

VERSIONS = ["ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2", "tls_1_3"]


def main():
    host, port = sys.argv[1], int(sys.argv[2])
    where = ServerNetworkLocation(hostname=host, ip_address=host, port=port)
    # A machine under test does much else; few connections at once are slower and steadier.
    patience = ServerNetworkConfiguration(tls_server_name_indication=host, network_timeout=20, network_max_retries=3)
    commands = {ScanCommand[f"{version.upper()}_CIPHER_SUITES"] for version in VERSIONS} | {
        ScanCommand.CERTIFICATE_INFO, ScanCommand.TLS_COMPRESSION, ScanCommand.TLS_1_3_EARLY_DATA,
        ScanCommand.TLS_FALLBACK_SCSV, ScanCommand.HEARTBLEED, ScanCommand.ROBOT,
        ScanCommand.SESSION_RENEGOTIATION, ScanCommand.OPENSSL_CCS_INJECTION, ScanCommand.ELLIPTIC_CURVES,
    }
    scanner = Scanner(per_server_concurrent_connections_limit=2, concurrent_server_scans_limit=1)
    scanner.queue_scans([ServerScanRequest(server_location=where, network_configuration=patience, scan_commands=commands)])
    [found] = scanner.get_results()
    if found.scan_result is None:
        sys.exit(f"not scanned: {found.connectivity_status} {found.connectivity_error_trace}")

    def of(name):
        attempt = getattr(found.scan_result, name)
        if attempt.result is None:
            sys.exit(f"{name}: {attempt.status} {attempt.error_reason} {attempt.error_trace}")
        return attempt.result

    accepted = {
        version: sorted(suite.cipher_suite.name for suite in of(f"{version}_cipher_suites").accepted_cipher_suites)
        for version in VERSIONS
    }
    [deployment] = of("certificate_info").certificate_deployments
    leaf = deployment.received_certificate_chain[0]
    renegotiation = of("session_renegotiation")
    print(json.dumps({
        "accepted": accepted,
        "curves": sorted(curve.name for curve in of("elliptic_curves").supported_curves or []),
        "certificate": {
            "key": type(leaf.public_key()).__name__,
            "bits": leaf.public_key().key_size,
            "signed_with": leaf.signature_hash_algorithm.name,
            "days": (leaf.not_valid_after_utc - leaf.not_valid_before_utc).days,
        },
        "compression": of("tls_compression").supports_compression,
        "early_data": of("tls_1_3_early_data").supports_early_data,
        "fallback_scsv": of("tls_fallback_scsv").supports_fallback_scsv,
        "heartbleed": of("heartbleed").is_vulnerable_to_heartbleed,
        "robot": of("robot").robot_result.name,
        "ccs_injection": of("openssl_ccs_injection").is_vulnerable_to_ccs_injection,
        "secure_renegotiation": renegotiation.supports_secure_renegotiation,
        "renegotiation_by_client": renegotiation.is_vulnerable_to_client_renegotiation_dos,
    }))


main()
