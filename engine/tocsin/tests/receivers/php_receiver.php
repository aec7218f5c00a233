<?php
// The specification's receiver for PHP, in its shape: the HMAC of the raw body against the header
// X-CEXPingz-Signature, 401 or 200. Run by php_receiver.cjs; what it prints is for the test.

$secret = trim(file_get_contents(getenv('RECEIVER_SECRET_FILE')));
$body = file_get_contents('php://input');
$claimed = $_SERVER['HTTP_X_CEXPINGZ_SIGNATURE'] ?? '';
$verified = hash_equals('sha256=' . hash_hmac('sha256', $body, $secret), $claimed);

$event = $verified ? json_decode($body, true) : [];
$said = json_encode([
    'event' => 'request',
    'verified' => $verified,
    'event_id' => $event['event_id'] ?? null,
    'type' => $event['type'] ?? null,
    'symbol' => $event['symbol'] ?? null,
    'bytes' => strlen($body),
    'signature' => $_SERVER['HTTP_X_CEXPING_SIGNATURE'] ?? null,
    'signature_z' => $_SERVER['HTTP_X_CEXPINGZ_SIGNATURE'] ?? null,
    'webhook_id' => $_SERVER['HTTP_WEBHOOK_ID'] ?? null,
    'webhook_signature' => $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? null,
    'attempt' => $_SERVER['HTTP_X_CEXPING_ATTEMPT'] ?? null,
]);
file_put_contents('php://stdout', $said . "\n");

http_response_code($verified ? 200 : 401);
