// Runs the Go of docs/webhooks.md, saved as webhook/verify.go below this file; see driver.py.
package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"example/webhook"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fields := strings.Split(lines.Text(), " ")
		for i, field := range fields[1:] {
			decoded, err := base64.StdEncoding.DecodeString(field)
			if err != nil {
				panic(err)
			}
			fields[i+1] = string(decoded)
		}
		body, f := []byte(fields[1]), fields[2:]
		if fields[0] == "specified" {
			fmt.Println(webhook.Verify(body, f[0], f[1]))
			continue
		}
		now, err := strconv.ParseInt(f[4], 10, 64)
		if err != nil {
			panic(err)
		}
		fmt.Println(webhook.VerifyStandard(body, f[0], f[1], f[2], f[3], time.Unix(now, 0)))
	}
}
