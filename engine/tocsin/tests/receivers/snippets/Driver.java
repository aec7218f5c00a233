// Runs the Java of docs/webhooks.md, saved as Webhook.java beside this file; see driver.py.
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.Base64;

final class Driver {
    public static void main(String[] args) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] f = line.split(" ", -1);
            byte[] body = Base64.getDecoder().decode(f[1]);
            for (int i = 2; i < f.length; i++) {
                f[i] = new String(Base64.getDecoder().decode(f[i]), StandardCharsets.UTF_8);
            }
            System.out.println(
                    f[0].equals("specified")
                            ? Webhook.verify(body, f[2], f[3])
                            : Webhook.verifyStandard(
                                    body, f[2], f[3], f[4], f[5], Instant.ofEpochSecond(Long.parseLong(f[6]))));
        }
    }
}
