using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace PciOperator.Kubernetes.Tests.Unit;

/// <summary>An authority and what it has signed, in PEM.</summary>
internal sealed class TestCertificates : IDisposable
{
    private readonly ECDsa _authorityKey = ECDsa.Create(ECCurve.NamedCurves.nistP256);
    private readonly X509Certificate2 _authority;

    public TestCertificates(string name = "CN=test-ca")
    {
        var request = new CertificateRequest(name, _authorityKey, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.KeyCertSign | X509KeyUsageFlags.CrlSign, true));
        request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, false));
        _authority = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(1));
    }

    public string AuthorityPem => _authority.ExportCertificatePem();

    public static string Base64(string text) => Convert.ToBase64String(System.Text.Encoding.UTF8.GetBytes(text));

    /// <summary>A certificate with its key; a server's without any name is for 127.0.0.1.</summary>
    public (string Certificate, string Key) Issue(
        string subject,
        bool rsa = false,
        string? dnsName = null,
        bool server = false,
        IPAddress? address = null
    )
    {
        using RSA? rsaKey = rsa ? RSA.Create(2048) : null;
        using ECDsa? ecKey = rsa ? null : ECDsa.Create(ECCurve.NamedCurves.nistP256);
        CertificateRequest request = rsa
            ? new CertificateRequest(subject, rsaKey!, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1)
            : new CertificateRequest(subject, ecKey!, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(
            new X509EnhancedKeyUsageExtension([new Oid(server ? "1.3.6.1.5.5.7.3.1" : "1.3.6.1.5.5.7.3.2")], false)
        );
        if (server)
        {
            var names = new SubjectAlternativeNameBuilder();
            if (dnsName is not null)
                names.AddDnsName(dnsName);
            if (address is not null || dnsName is null)
                names.AddIpAddress(address ?? IPAddress.Loopback);
            request.CertificateExtensions.Add(names.Build());
        }

        using X509Certificate2 signed = request.Create(
            _authority.SubjectName,
            X509SignatureGenerator.CreateForECDsa(_authorityKey),
            DateTimeOffset.UtcNow.AddHours(-1),
            DateTimeOffset.UtcNow.AddHours(1),
            RandomNumberGenerator.GetBytes(8)
        );
        // As openssl and kubeadm write them: SEC 1 for ECDSA, PKCS#1 for RSA.
        return (signed.ExportCertificatePem(), rsa ? rsaKey!.ExportRSAPrivateKeyPem() : ecKey!.ExportECPrivateKeyPem());
    }

    public void Dispose()
    {
        _authority.Dispose();
        _authorityKey.Dispose();
    }
}
