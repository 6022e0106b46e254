using System.Net.Http.Headers;
using System.Net.Security;
using System.Reflection;
using System.Text.Json;
using k8s;
using k8s.Authentication;
using k8s.KubeConfigModels;
using PciOperator.Testing;

namespace PciOperator.Kubernetes.Tests.Unit;

public sealed class KubeconfigTests : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("pcioperator-kubeconfig-");
    private readonly TestCertificates _certificates = new();

    public void Dispose()
    {
        _folder.Delete(recursive: true);
        _certificates.Dispose();
    }

    private string Write(string name, string text)
    {
        string path = Path.Combine(_folder.FullName, name);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllText(path, text);
        return path;
    }

    private static string Config(string cluster = "server: https://10.0.0.1:6443", string user = "token: secret", string context = "") =>
        $$"""
            apiVersion: v1
            kind: Config
            current-context: main
            clusters:
            - name: c
              cluster: { {{cluster}} }
            users:
            - name: u
              user: { {{user}} }
            contexts:
            - name: main
              context: { cluster: c, user: u{{context}} }
            """;

    private static async Task<string?> TokenOf(ITokenProvider provider) =>
        (await provider.GetAuthenticationHeaderAsync(CancellationToken.None))?.Parameter;

    [Fact]
    public void A_token_and_a_namespace()
    {
        KubernetesClientConfiguration configuration = ClusterAccess.FromKubeconfigText(Config(context: ", namespace: team-a"));
        Assert.Equal("https://10.0.0.1:6443", configuration.Host);
        Assert.Equal("team-a", configuration.Namespace);
        Assert.Equal("secret", configuration.AccessToken);
        Assert.Null(configuration.SslCaCerts);
        Assert.False(configuration.SkipTlsVerify);
    }

    private static string Text(string base64) => System.Text.Encoding.UTF8.GetString(Convert.FromBase64String(base64));

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Client_certificates_as_data_and_as_files(bool rsa)
    {
        (string? certificate, string? key) = _certificates.Issue("CN=admin,O=system:masters", rsa);
        string ca = _certificates.AuthorityPem;
        KubernetesClientConfiguration inline = ClusterAccess.FromKubeconfigText(
            Config(
                $"server: 'https://10.0.0.1:6443', certificate-authority-data: {TestCertificates.Base64(ca)}, tls-server-name: kubernetes, insecure-skip-tls-verify: false",
                $"client-certificate-data: {TestCertificates.Base64(certificate)}, client-key-data: {TestCertificates.Base64(key)}"
            )
        );
        Assert.Equal("kubernetes", inline.TlsServerName);

        // Relative paths are relative to the kubeconfig, and a file may hold intermediates too.
        Write("pki/ca.crt", ca);
        Write("pki/admin.crt", certificate + "\n" + ca);
        Write("pki/admin.key", key);
        string path = Write(
            "config",
            Config(
                "server: 'https://10.0.0.1:6443', certificate-authority: pki/ca.crt, insecure-skip-tls-verify: true",
                "client-certificate: pki/admin.crt, client-key: pki/admin.key"
            )
        );
        KubernetesClientConfiguration files = ClusterAccess.FromKubeconfig(path);
        Assert.True(files.SkipTlsVerify);
        (
            System.Security.Cryptography.X509Certificates.X509Certificate2 _,
            System.Security.Cryptography.X509Certificates.X509Certificate2Collection? chain
        ) = Pem.ReadCertificateWithKey(Text(files.ClientCertificateData), Text(files.ClientCertificateKeyData), "test");
        Assert.Single(chain!);

        foreach (KubernetesClientConfiguration configuration in (KubernetesClientConfiguration[])[inline, files])
        {
            SslStreamCertificateContext sent = ClusterAccess.TlsOptions(configuration).ClientCertificateContext!;
            Assert.True(sent.TargetCertificate.HasPrivateKey);
            Assert.Contains("CN=admin", sent.TargetCertificate.Subject, StringComparison.Ordinal);
            Assert.Equal(_certificates.AuthorityPem, Assert.Single(configuration.SslCaCerts).ExportCertificatePem());
            Assert.Null(configuration.TokenProvider);
        }
    }

    [Fact]
    public void Every_authority_of_a_bundle_counts_as_while_one_takes_over_from_another()
    {
        using var next = new TestCertificates("CN=next-ca");
        string bundle = TestCertificates.Base64(_certificates.AuthorityPem + "\n" + next.AuthorityPem);
        KubernetesClientConfiguration configuration = ClusterAccess.FromKubeconfigText(
            Config($"server: 'https://10.0.0.1:6443', certificate-authority-data: {bundle}")
        );
        Assert.Equal(2, configuration.SslCaCerts.Count);
        Assert.Equal(2, ClusterAccess.TlsOptions(configuration).CertificateChainPolicy!.CustomTrustStore.Count);
    }

    [Fact]
    public async Task Several_files_are_merged_and_the_first_to_name_something_wins()
    {
        Write("tokens/t", "from-file\n");
        string first = Write(
            "a",
            """
            clusters:
            - name: c
              cluster: {server: https://first:6443}
            users: []
            """
        );
        string second = Write(
            "sub/b",
            """
            current-context: two
            clusters:
            - name: c
              cluster: {server: https://second:6443}
            - name: d
              cluster: {server: https://d:6443}
            users:
            - name: u
              user: {tokenFile: ../tokens/t, token: stale}
            contexts:
            - name: two
              context: {cluster: c, user: u}
            - name: three
              context: {cluster: d}
            """
        );
        string path = $"{first}:{second}:{_folder.FullName}/missing";
        KubernetesClientConfiguration configuration = ClusterAccess.FromKubeconfig(path);
        Assert.Equal("https://first:6443", configuration.Host);
        Assert.Equal("from-file", await TokenOf(configuration.TokenProvider));
        KubernetesClientConfiguration other = ClusterAccess.FromKubeconfig(path, "three");
        Assert.Equal("https://d:6443", other.Host);
        Assert.Null(other.TokenProvider);
    }

    [Fact]
    public async Task A_token_file_is_read_again_each_minute_and_after_a_rejection()
    {
        var time = new FakeTimeProvider();
        string path = Write("token", "one");
        var source = new TokenFile(path, time);
        Assert.Equal("one", await TokenOf(source));
        Write("token", "two");
        Assert.Equal("one", await TokenOf(source));
        time.Advance(TimeSpan.FromSeconds(61));
        AuthenticationHeaderValue two = await source.GetAuthenticationHeaderAsync(default);
        Assert.Equal("Bearer two", two.ToString());
        Write("token", "three\n");
        source.Rejected(two);
        Assert.Equal("three", await TokenOf(source));
        Write("token", " ");
        time.Advance(TimeSpan.FromSeconds(61));
        await Assert.ThrowsAsync<KubeconfigException>(() => source.GetAuthenticationHeaderAsync(default));
    }

    [Fact]
    public async Task In_a_pod_the_service_account_is_used()
    {
        Write("token", "pod-token");
        Write("ca.crt", _certificates.AuthorityPem);
        Write("namespace", "kube-pci\n");
        // The library looks in one folder only, which a test can't write to.
        FieldInfo folder = typeof(KubernetesClientConfiguration).GetField(
            "ServiceAccountPath",
            BindingFlags.NonPublic | BindingFlags.Static
        )!;
        object? before = folder.GetValue(null);
        folder.SetValue(null, _folder.FullName);
        Environment.SetEnvironmentVariable("KUBERNETES_SERVICE_HOST", "fd00::1");
        Environment.SetEnvironmentVariable("KUBERNETES_SERVICE_PORT", "443");
        try
        {
            KubernetesClientConfiguration configuration = ClusterAccess.InCluster(Path.Combine(_folder.FullName, "token"));
            Assert.Equal(new Uri("https://[fd00::1]/"), new Uri(configuration.Host));
            Assert.Equal("kube-pci", configuration.Namespace);
            Assert.Equal("pod-token", await TokenOf(configuration.TokenProvider));
            Assert.IsAssignableFrom<IRenewedTokenProvider>(configuration.TokenProvider);
            Assert.Single(configuration.SslCaCerts);
            File.Delete(Path.Combine(_folder.FullName, "token"));
            KubeconfigException error = Assert.Throws<KubeconfigException>(() =>
                ClusterAccess.InCluster(Path.Combine(_folder.FullName, "token"))
            );
            Assert.Contains("automountServiceAccountToken", error.Message, StringComparison.Ordinal);
        }
        finally
        {
            folder.SetValue(null, before);
            Environment.SetEnvironmentVariable("KUBERNETES_SERVICE_HOST", null);
            Environment.SetEnvironmentVariable("KUBERNETES_SERVICE_PORT", null);
        }
    }

    private ExecCredentials Plugin(string script, FakeTimeProvider time, bool clusterInfo = false)
    {
        string path = Write("plugin.sh", "#!/bin/sh\n" + script);
        File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserExecute);
        string config = Write(
            "config",
            $$$"""
            current-context: main
            clusters: [{name: c, cluster: {server: "https://10.0.0.1:6443", tls-server-name: kube}}]
            contexts: [{name: main, context: {cluster: c, user: u}}]
            users:
            - name: u
              user:
                exec:
                  apiVersion: client.authentication.k8s.io/v1
                  command: ./plugin.sh
                  args: [get-token, "--x=1 and blanks"]
                  env: [{name: PLUGIN_ENV, value: hello}]
                  interactiveMode: IfAvailable
                  installHint: Install it.
                  provideClusterInfo: {{{(clusterInfo ? "true" : "false")}}}
            """
        );
        ExecCredentials read = Assert.IsType<ExecCredentials>(ClusterAccess.FromKubeconfig(config).TokenProvider);
        return new ExecCredentials(read.Program, read.Cluster, time);
    }

    [Fact]
    public async Task An_exec_plugin_is_run_when_needed_and_kept_till_it_expires_or_is_rejected()
    {
        var time = new FakeTimeProvider();
        ExecCredentials source = Plugin(
            $$$"""
            echo run >> {{{_folder.FullName}}}/runs
            echo "$KUBERNETES_EXEC_INFO" > {{{_folder.FullName}}}/info
            n=$(wc -l < {{{_folder.FullName}}}/runs)
            echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"'"$PLUGIN_ENV-$1-$2-$n"'","expirationTimestamp":"2026-01-01T00:10:00Z"}}'
            """,
            time,
            clusterInfo: true
        );
        AuthenticationHeaderValue first = await source.GetAuthenticationHeaderAsync(default);
        Assert.Equal("hello-get-token---x=1 and blanks-1", first.Parameter);
        Assert.Same(first, await source.GetAuthenticationHeaderAsync(default));
        source.Rejected(first);
        Assert.Equal("hello-get-token---x=1 and blanks-2", await TokenOf(source));
        time.Advance(TimeSpan.FromMinutes(9));
        Assert.EndsWith("-2", await TokenOf(source), StringComparison.Ordinal);
        time.Advance(TimeSpan.FromSeconds(51));
        Assert.EndsWith("-3", await TokenOf(source), StringComparison.Ordinal);

        using var info = JsonDocument.Parse(await File.ReadAllTextAsync(Path.Combine(_folder.FullName, "info")));
        Assert.Equal("ExecCredential", info.RootElement.GetProperty("kind").GetString());
        JsonElement spec = info.RootElement.GetProperty("spec");
        Assert.False(spec.GetProperty("interactive").GetBoolean());
        Assert.Equal("https://10.0.0.1:6443", spec.GetProperty("cluster").GetProperty("server").GetString());
        Assert.Equal("kube", spec.GetProperty("cluster").GetProperty("tls-server-name").GetString());
    }

    [Fact]
    public async Task An_exec_plugin_may_give_a_certificate()
    {
        (string? certificate, string? key) = _certificates.Issue("CN=from-plugin");
        Write(
            "answer.json",
            JsonSerializer.Serialize(
                new Dictionary<string, object>
                {
                    ["apiVersion"] = "client.authentication.k8s.io/v1",
                    ["kind"] = "ExecCredential",
                    ["status"] = new Dictionary<string, string> { ["clientCertificateData"] = certificate, ["clientKeyData"] = key },
                }
            )
        );
        ExecCredentials credential = Plugin($"cat {_folder.FullName}/answer.json", new FakeTimeProvider());
        Assert.Null(await credential.GetAuthenticationHeaderAsync(default));
        Assert.Equal("CN=from-plugin", credential.ClientCertificate!.Subject);
        Assert.True(credential.ClientCertificate.HasPrivateKey);
    }

    [Theory]
    [InlineData("echo no login >&2; exit 3", "ended with 3: no login")]
    [InlineData("echo hello", "did not answer with an ExecCredential")]
    [InlineData(
        """echo '{"apiVersion":"client.authentication.k8s.io/v1beta1","kind":"ExecCredential"}'""",
        "expected client.authentication.k8s.io/v1 ExecCredential"
    )]
    [InlineData(
        """echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{}}'""",
        "neither a token nor a client certificate"
    )]
    public async Task What_a_plugin_does_wrong_is_said(string script, string expected)
    {
        KubeconfigException error = await Assert.ThrowsAsync<KubeconfigException>(() =>
            Plugin(script, new FakeTimeProvider()).GetAuthenticationHeaderAsync(default)
        );
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
        Assert.Contains("plugin.sh", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_plugin_that_is_not_there_is_named_with_its_hint()
    {
        var source = new ExecCredentials(
            new ExternalExecution
            {
                ApiVersion = "client.authentication.k8s.io/v1",
                Command = "no-such-plugin",
                InstallHint = "Install it.",
            }
        );
        KubeconfigException error = await Assert.ThrowsAsync<KubeconfigException>(() => source.GetAuthenticationHeaderAsync(default));
        Assert.Contains("no-such-plugin could not be started", error.Message, StringComparison.Ordinal);
        Assert.EndsWith("Install it.", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("a: [", "is not YAML")]
    [InlineData("- a", "is not a kubeconfig")]
    [InlineData("clusters: [{cluster: {server: 'https://x'}}]", "an entry of clusters has no name")]
    [InlineData("contexts: [{name: a, context: {cluster: c}}]", "has no current-context; name one of: a")]
    [InlineData("current-context: b\ncontexts: [{name: a, context: {cluster: c}}]", "has no context 'b'; it has: a")]
    [InlineData("current-context: a\ncontexts: [{name: a, context: {cluster: c}}]", "has no cluster 'c'")]
    [InlineData("current-context: a\ncontexts: [{name: a, context: {}}]", "names no cluster")]
    [InlineData(
        "current-context: a\ncontexts: [{name: a, context: {cluster: c}}]\nclusters: [{name: c, cluster: {server: 'ftp://x'}}]",
        "server of context a is 'ftp://x'"
    )]
    [InlineData(
        "current-context: a\ncontexts: [{name: a, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: {server: 'https://x'}}]",
        "has no user 'u'"
    )]
    [InlineData(
        "current-context: a\ncontexts: [{name: a, context: {cluster: c}}]\nclusters: [{name: c, cluster: {server: 'https://x', certificate-authority-data: '%'}}]",
        "certificate-authority-data is not base64"
    )]
    [InlineData(
        "current-context: a\ncontexts: [{name: a, context: {cluster: c}}]\nclusters: [{name: c, cluster: {server: 'https://x', certificate-authority-data: aGVsbG8=}}]",
        "has no PEM certificate"
    )]
    [InlineData(
        "current-context: a\ncontexts: [{name: a, context: {cluster: c}}]\nclusters: [{name: c, cluster: {server: 'https://x', certificate-authority: /no/such/file}}]",
        "cannot read certificate-authority /no/such/file"
    )]
    [InlineData(
        "current-context: a\ncontexts: [{name: a, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: {server: 'https://x'}}]\nusers: [{name: u, user: {client-key-data: aGVsbG8=}}]",
        "a key without its certificate"
    )]
    [InlineData(
        "current-context: a\ncontexts: [{name: a, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: {server: 'https://x'}}]\nusers: [{name: u, user: {exec: {apiVersion: v1alpha1, command: x}}}]",
        "expected client.authentication.k8s.io/v1 or v1beta1"
    )]
    public void What_is_wrong_is_said(string text, string expected)
    {
        KubeconfigException error = Assert.Throws<KubeconfigException>(() => ClusterAccess.FromKubeconfigText(text));
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_key_of_another_certificate_is_refused()
    {
        (string? certificate, string _) = _certificates.Issue("CN=a");
        (string _, string? key) = _certificates.Issue("CN=b");
        KubeconfigException error = Assert.Throws<KubeconfigException>(() =>
            ClusterAccess.FromKubeconfigText(
                Config(
                    user: $"client-certificate-data: {TestCertificates.Base64(certificate)}, client-key-data: {TestCertificates.Base64(key)}"
                )
            )
        );
        Assert.Contains("do not go together", error.Message, StringComparison.Ordinal);
    }
}
