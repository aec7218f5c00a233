<?php
// Runs the PHP of docs/webhooks.md, saved as verify.php beside this file; see driver.py.
error_reporting(E_ALL);
set_error_handler(fn ($number, $what) => throw new ErrorException($what));
require __DIR__ . '/verify.php';

while (($line = fgets(STDIN)) !== false) {
    $fields = explode(' ', rtrim($line, "\n"));
    $kind = array_shift($fields);
    $fields = array_map('base64_decode', $fields);
    if ($kind !== 'specified') {
        $fields[] = (int) array_pop($fields);
    }
    $verified = $kind === 'specified' ? verify(...$fields) : verify_standard(...$fields);
    echo $verified ? "true\n" : "false\n";
}
