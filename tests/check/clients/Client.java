// usage: java Client.java PORT VERSION CA [PKCS12], whose password is "secret": two connections; in
// TLS 1.3 the second one resumes.
import java.io.FileInputStream;
import java.nio.charset.StandardCharsets;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

public class Client {
    public static void main(String[] args) throws Exception {
        KeyStore trusted = KeyStore.getInstance(KeyStore.getDefaultType());
        trusted.load(null, null);
        trusted.setCertificateEntry("ca", CertificateFactory.getInstance("X.509")
            .generateCertificate(new FileInputStream(args[2])));
        TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
        trust.init(trusted);
        KeyManagerFactory keys = KeyManagerFactory.getInstance("PKIX");
        if (args.length > 3) {
            KeyStore own = KeyStore.getInstance("PKCS12");
            own.load(new FileInputStream(args[3]), "secret".toCharArray());
            keys.init(own, "secret".toCharArray());
        }
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(args.length > 3 ? keys.getKeyManagers() : null, trust.getTrustManagers(), null);
        for (int i = 0; i < 2; i++) {
            SSLSocket s = (SSLSocket) context.getSocketFactory()
                .createSocket("localhost", Integer.parseInt(args[0]));
            SSLParameters p = s.getSSLParameters();
            p.setProtocols(new String[] { "TLSv" + args[1] });
            p.setEndpointIdentificationAlgorithm("HTTPS");
            s.setSSLParameters(p);
            s.getOutputStream().write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
                .getBytes(StandardCharsets.US_ASCII));
            String answer = new String(s.getInputStream().readAllBytes(), StandardCharsets.US_ASCII);
            System.out.print(answer.split("\r\n\r\n", 2)[1]);
            s.close();
        }
    }
}
