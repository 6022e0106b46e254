using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using k8s.Models;
using PciOperator.Kubernetes;

namespace PciOperator.Testing;

/// <summary>
/// etcd and kube-apiserver from a folder as <c>setup-envtest use -p path</c> prints it: started with keys, a certificate and an
/// administrator's token that are made on the spot.
/// </summary>
internal sealed class KubebuilderApiServer : IAsyncDisposable
{
    private readonly DirectoryInfo _folder;
    private readonly List<ServerProcess> _processes = [];

    private KubebuilderApiServer(DirectoryInfo folder) => _folder = folder;

    public string KubeconfigText { get; private set; } = "";

    public static async Task<KubebuilderApiServer> StartAsync(string assets)
    {
        foreach (string program in (string[])["etcd", "kube-apiserver"])
        {
            if (!File.Exists(Path.Combine(assets, program)))
                throw new InvalidOperationException($"KUBEBUILDER_ASSETS is {assets}, which has no {program}.");
        }

        var server = new KubebuilderApiServer(Directory.CreateTempSubdirectory("pcioperator-kubebuilder-"));
        try
        {
            await server.RunAsync(assets);
            return server;
        }
        catch
        {
            await server.DisposeAsync();
            throw;
        }
    }

    private async Task RunAsync(string assets)
    {
        string client = $"http://127.0.0.1:{ServerProcess.FreePort()}";
        string peer = $"http://127.0.0.1:{ServerProcess.FreePort()}";
        _processes.Add(
            ServerProcess.Start(
                Path.Combine(assets, "etcd"),
                [
                    "--data-dir",
                    InFolder("etcd"),
                    "--listen-client-urls",
                    client,
                    "--advertise-client-urls",
                    client,
                    "--listen-peer-urls",
                    peer,
                    "--initial-advertise-peer-urls",
                    peer,
                    "--initial-cluster",
                    $"default={peer}",
                    "--unsafe-no-fsync",
                ]
            )
        );

        string token = Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(16));
        await File.WriteAllTextAsync(InFolder("tokens.csv"), $"{token},admin,admin,\"system:masters\"\n");
        using (var key = RSA.Create(2048))
        {
            await File.WriteAllTextAsync(InFolder("sa.key"), key.ExportRSAPrivateKeyPem());
            await File.WriteAllTextAsync(InFolder("sa.pub"), key.ExportSubjectPublicKeyInfoPem());
        }

        string certificate = await WriteServingCertificateAsync();
        int port = ServerProcess.FreePort();
        _processes.Add(
            ServerProcess.Start(
                Path.Combine(assets, "kube-apiserver"),
                [
                    $"--etcd-servers={client}",
                    "--bind-address=127.0.0.1",
                    "--advertise-address=127.0.0.1",
                    $"--secure-port={port}",
                    $"--tls-cert-file={InFolder("tls.crt")}",
                    $"--tls-private-key-file={InFolder("tls.key")}",
                    $"--cert-dir={InFolder("certs")}",
                    $"--token-auth-file={InFolder("tokens.csv")}",
                    "--authorization-mode=RBAC",
                    "--service-account-issuer=https://kubernetes.default.svc",
                    $"--service-account-key-file={InFolder("sa.pub")}",
                    $"--service-account-signing-key-file={InFolder("sa.key")}",
                    "--service-cluster-ip-range=10.0.0.0/24",
                    "--allow-privileged=true",
                    // No controller makes service accounts here, and pods without one are to be accepted.
                    "--disable-admission-plugins=ServiceAccount",
                ]
            )
        );
        KubeconfigText = $"""
            apiVersion: v1
            kind: Config
            current-context: test
            clusters:
            - name: test
              cluster:
                server: https://127.0.0.1:{port}
                certificate-authority-data: {Convert.ToBase64String(Encoding.UTF8.GetBytes(certificate))}
            users:
            - name: admin
              user: {"{"}token: "{token}"{"}"}
            contexts:
            - name: test
              context: {"{"}cluster: test, user: admin{"}"}
            """;
        await WaitUntilReadyAsync();
    }

    private async Task<string> WriteServingCertificateAsync()
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("CN=kube-apiserver", key, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        names.AddIpAddress(IPAddress.Loopback);
        names.AddDnsName("localhost");
        request.CertificateExtensions.Add(names.Build());
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        using X509Certificate2 certificate = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddHours(-1), DateTimeOffset.UtcNow.AddDays(2));
        await File.WriteAllTextAsync(InFolder("tls.crt"), certificate.ExportCertificatePem());
        await File.WriteAllTextAsync(InFolder("tls.key"), key.ExportECPrivateKeyPem());
        return certificate.ExportCertificatePem();
    }

    private async Task WaitUntilReadyAsync()
    {
        using var client = new EntityClient(ClusterAccess.FromKubeconfigText(KubeconfigText));
        using var limit = new CancellationTokenSource(TimeSpan.FromMinutes(1));
        while (true)
        {
            try
            {
                // The server's own start-up makes this namespace last.
                if (await client.GetAsync<V1Namespace>("default", ct: limit.Token) is not null)
                    return;
            }
            catch (Exception e) when (e is HttpRequestException or ApiException)
            {
                // Not listening yet, or not ready.
            }
            catch (OperationCanceledException)
            {
                throw new InvalidOperationException(
                    $"kube-apiserver did not become ready within a minute.\n{string.Join("\n\n", _processes.Select(p => p.LogEnd))}"
                );
            }

            if (_processes.Any(p => p.HasExited))
            {
                throw new InvalidOperationException(
                    $"etcd or kube-apiserver ended.\n{string.Join("\n\n", _processes.Select(p => p.LogEnd))}"
                );
            }

            await Task.Delay(100, CancellationToken.None);
        }
    }

    private string InFolder(string name) => Path.Combine(_folder.FullName, name);

    public async ValueTask DisposeAsync()
    {
        foreach (ServerProcess? process in Enumerable.Reverse(_processes))
            await process.DisposeAsync();
        _folder.Delete(recursive: true);
    }
}
