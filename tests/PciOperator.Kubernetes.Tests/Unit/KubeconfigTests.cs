using System.Text.Json;
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
        var path = Path.Combine(_folder.FullName, name);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllText(path, text);
        return path;
    }

    private static string Config(string cluster = "server: https://10.0.0.1:6443", string user = "token: secret", string context = "") => $$"""
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

    private static async Task<string?> TokenOf(KubernetesClientConfiguration configuration) =>
        (await configuration.Credentials!.GetAsync(CancellationToken.None)).Token;

    [Fact]
    public async Task A_token_and_a_namespace()
    {
        var configuration = KubernetesClientConfiguration.FromKubeconfigText(Config(context: ", namespace: team-a"));
        Assert.Equal(new Uri("https://10.0.0.1:6443"), configuration.Server);
        Assert.Equal("team-a", configuration.Namespace);
        Assert.Equal("secret", await TokenOf(configuration));
        Assert.Null(configuration.CertificateAuthorities);
        Assert.False(configuration.SkipTlsVerify);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Client_certificates_as_data_and_as_files(bool rsa)
    {
        var (certificate, key) = _certificates.Issue("CN=admin,O=system:masters", rsa);
        var ca = _certificates.AuthorityPem;
        var inline = KubernetesClientConfiguration.FromKubeconfigText(Config(
            $"server: 'https://10.0.0.1:6443', certificate-authority-data: {TestCertificates.Base64(ca)}, tls-server-name: kubernetes, insecure-skip-tls-verify: false",
            $"client-certificate-data: {TestCertificates.Base64(certificate)}, client-key-data: {TestCertificates.Base64(key)}"));
        Assert.Equal("kubernetes", inline.TlsServerName);

        // Relative paths are relative to the kubeconfig, and a file may hold intermediates too.
        Write("pki/ca.crt", ca);
        Write("pki/admin.crt", certificate + "\n" + ca);
        Write("pki/admin.key", key);
        var path = Write("config", Config(
            "server: 'https://10.0.0.1:6443', certificate-authority: pki/ca.crt, insecure-skip-tls-verify: true",
            "client-certificate: pki/admin.crt, client-key: pki/admin.key"));
        var files = KubernetesClientConfiguration.FromKubeconfig(path);
        Assert.True(files.SkipTlsVerify);
        Assert.Single(files.ClientCertificateChain!);

        foreach (var configuration in (KubernetesClientConfiguration[])[inline, files])
        {
            Assert.True(configuration.ClientCertificate!.HasPrivateKey);
            Assert.Contains("CN=admin", configuration.ClientCertificate.Subject, StringComparison.Ordinal);
            Assert.Equal(_certificates.AuthorityPem, Assert.Single(configuration.CertificateAuthorities!).ExportCertificatePem());
            Assert.Null(configuration.Credentials);
        }
    }

    [Fact]
    public async Task Several_files_are_merged_and_the_first_to_name_something_wins()
    {
        Write("tokens/t", "from-file\n");
        var first = Write("a", """
            clusters:
            - name: c
              cluster: {server: https://first:6443}
            users: []
            """);
        var second = Write("sub/b", """
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
            """);
        var path = $"{first}:{second}:{_folder.FullName}/missing";
        var configuration = KubernetesClientConfiguration.FromKubeconfig(path);
        Assert.Equal("https://first:6443/", configuration.Server.ToString());
        Assert.Equal("from-file", await TokenOf(configuration));
        var other = KubernetesClientConfiguration.FromKubeconfig(path, "three");
        Assert.Equal("https://d:6443/", other.Server.ToString());
        Assert.Null(other.Credentials);
    }

    [Fact]
    public async Task A_token_file_is_read_again_each_minute_and_after_a_rejection()
    {
        var time = new FakeTimeProvider();
        var path = Write("token", "one");
        var source = CredentialSource.FromFile(path, time);
        Assert.Equal("one", (await source.GetAsync(default)).Token);
        Write("token", "two");
        Assert.Equal("one", (await source.GetAsync(default)).Token);
        time.Advance(TimeSpan.FromSeconds(61));
        var two = await source.GetAsync(default);
        Assert.Equal("two", two.Token);
        Write("token", "three\n");
        source.Rejected(two);
        Assert.Equal("three", (await source.GetAsync(default)).Token);
        Write("token", " ");
        time.Advance(TimeSpan.FromSeconds(61));
        await Assert.ThrowsAsync<KubeconfigException>(async () => await source.GetAsync(default));
    }

    [Fact]
    public async Task In_a_pod_the_service_account_is_used()
    {
        Write("token", "pod-token");
        Write("ca.crt", _certificates.AuthorityPem);
        Write("namespace", "kube-pci\n");
        var configuration = KubernetesClientConfiguration.InCluster(_folder.FullName, "fd00::1", "443");
        Assert.Equal("https://[fd00::1]/", configuration.Server.ToString());
        Assert.Equal("kube-pci", configuration.Namespace);
        Assert.Equal("pod-token", await TokenOf(configuration));
        Assert.Single(configuration.CertificateAuthorities!);
        File.Delete(Path.Combine(_folder.FullName, "token"));
        var error = Assert.Throws<KubeconfigException>(() => KubernetesClientConfiguration.InCluster(_folder.FullName, "10.0.0.1", "443"));
        Assert.Contains("token is not there", error.Message, StringComparison.Ordinal);
    }

    private ExecCredentialSource Plugin(string script, FakeTimeProvider time, bool clusterInfo = false)
    {
        var path = Write("plugin.sh", "#!/bin/sh\n" + script);
        File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserExecute);
        var config = Write("config", $$$"""
            current-context: main
            clusters: [{name: c, cluster: {server: "https://10.0.0.1:6443", tls-server-name: kube}}]
            contexts: [{name: main, context: {cluster: c, user: u}}]
            users:
            - name: u
              user:
                exec:
                  apiVersion: client.authentication.k8s.io/v1
                  command: ./plugin.sh
                  args: [get-token, "--x=1"]
                  env: [{name: PLUGIN_ENV, value: hello}]
                  interactiveMode: IfAvailable
                  installHint: Install it.
                  provideClusterInfo: {{{(clusterInfo ? "true" : "false")}}}
            """);
        var source = Assert.IsType<ExecCredentialSource>(KubernetesClientConfiguration.FromKubeconfig(config).Credentials);
        return new ExecCredentialSource
        {
            ApiVersion = source.ApiVersion,
            Command = source.Command,
            Arguments = source.Arguments,
            Environment = source.Environment,
            InstallHint = source.InstallHint,
            Cluster = source.Cluster,
            Time = time,
        };
    }

    [Fact]
    public async Task An_exec_plugin_is_run_when_needed_and_kept_till_it_expires_or_is_rejected()
    {
        var time = new FakeTimeProvider();
        var source = Plugin(
            $$$"""
            echo run >> {{{_folder.FullName}}}/runs
            echo "$KUBERNETES_EXEC_INFO" > {{{_folder.FullName}}}/info
            n=$(wc -l < {{{_folder.FullName}}}/runs)
            echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"'"$PLUGIN_ENV-$1-$2-$n"'","expirationTimestamp":"2026-01-01T00:10:00Z"}}'
            """,
            time,
            clusterInfo: true);
        var first = await source.GetAsync(default);
        Assert.Equal("hello-get-token---x=1-1", first.Token);
        Assert.Same(first, await source.GetAsync(default));
        source.Rejected(first);
        Assert.Equal("hello-get-token---x=1-2", (await source.GetAsync(default)).Token);
        time.Advance(TimeSpan.FromMinutes(9));
        Assert.EndsWith("-2", (await source.GetAsync(default)).Token, StringComparison.Ordinal);
        time.Advance(TimeSpan.FromSeconds(51));
        Assert.EndsWith("-3", (await source.GetAsync(default)).Token, StringComparison.Ordinal);

        using var info = JsonDocument.Parse(await File.ReadAllTextAsync(Path.Combine(_folder.FullName, "info")));
        Assert.Equal("ExecCredential", info.RootElement.GetProperty("kind").GetString());
        var spec = info.RootElement.GetProperty("spec");
        Assert.False(spec.GetProperty("interactive").GetBoolean());
        Assert.Equal("https://10.0.0.1:6443", spec.GetProperty("cluster").GetProperty("server").GetString());
        Assert.Equal("kube", spec.GetProperty("cluster").GetProperty("tls-server-name").GetString());
    }

    [Fact]
    public async Task An_exec_plugin_may_give_a_certificate()
    {
        var (certificate, key) = _certificates.Issue("CN=from-plugin");
        Write("answer.json", JsonSerializer.Serialize(new Dictionary<string, object>
        {
            ["apiVersion"] = "client.authentication.k8s.io/v1",
            ["kind"] = "ExecCredential",
            ["status"] = new Dictionary<string, string> { ["clientCertificateData"] = certificate, ["clientKeyData"] = key },
        }));
        var credential = await Plugin($"cat {_folder.FullName}/answer.json", new FakeTimeProvider()).GetAsync(default);
        Assert.Null(credential.Token);
        Assert.Equal("CN=from-plugin", credential.ClientCertificate!.Subject);
        Assert.True(credential.ClientCertificate.HasPrivateKey);
    }

    [Theory]
    [InlineData("echo no login >&2; exit 3", "ended with 3: no login")]
    [InlineData("echo hello", "did not answer with an ExecCredential")]
    [InlineData("""echo '{"apiVersion":"client.authentication.k8s.io/v1beta1","kind":"ExecCredential"}'""", "expected client.authentication.k8s.io/v1 ExecCredential")]
    [InlineData("""echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{}}'""", "neither a token nor a client certificate")]
    public async Task What_a_plugin_does_wrong_is_said(string script, string expected)
    {
        var error = await Assert.ThrowsAsync<KubeconfigException>(async () => await Plugin(script, new FakeTimeProvider()).GetAsync(default));
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
        Assert.Contains("plugin.sh", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_plugin_that_is_not_there_is_named_with_its_hint()
    {
        var source = new ExecCredentialSource { ApiVersion = "client.authentication.k8s.io/v1", Command = "no-such-plugin", InstallHint = "Install it." };
        var error = await Assert.ThrowsAsync<KubeconfigException>(async () => await source.GetAsync(default));
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
    [InlineData("current-context: a\ncontexts: [{name: a, context: {cluster: c}}]\nclusters: [{name: c, cluster: {server: 'ftp://x'}}]", "server of context a is 'ftp://x'")]
    [InlineData("current-context: a\ncontexts: [{name: a, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: {server: 'https://x'}}]", "has no user 'u'")]
    [InlineData("current-context: a\ncontexts: [{name: a, context: {cluster: c}}]\nclusters: [{name: c, cluster: {server: 'https://x', certificate-authority-data: '%'}}]", "certificate-authority-data is not base64")]
    [InlineData("current-context: a\ncontexts: [{name: a, context: {cluster: c}}]\nclusters: [{name: c, cluster: {server: 'https://x', certificate-authority-data: aGVsbG8=}}]", "has no PEM certificate")]
    [InlineData("current-context: a\ncontexts: [{name: a, context: {cluster: c}}]\nclusters: [{name: c, cluster: {server: 'https://x', certificate-authority: /no/such/file}}]", "cannot read certificate-authority /no/such/file")]
    [InlineData("current-context: a\ncontexts: [{name: a, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: {server: 'https://x'}}]\nusers: [{name: u, user: {client-key-data: aGVsbG8=}}]", "a key without its certificate")]
    [InlineData("current-context: a\ncontexts: [{name: a, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: {server: 'https://x'}}]\nusers: [{name: u, user: {exec: {apiVersion: v1alpha1, command: x}}}]", "expected client.authentication.k8s.io/v1 or v1beta1")]
    public void What_is_wrong_is_said(string text, string expected)
    {
        var error = Assert.Throws<KubeconfigException>(() => KubernetesClientConfiguration.FromKubeconfigText(text));
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_key_of_another_certificate_is_refused()
    {
        var (certificate, _) = _certificates.Issue("CN=a");
        var (_, key) = _certificates.Issue("CN=b");
        var error = Assert.Throws<KubeconfigException>(() => KubernetesClientConfiguration.FromKubeconfigText(Config(
            user: $"client-certificate-data: {TestCertificates.Base64(certificate)}, client-key-data: {TestCertificates.Base64(key)}")));
        Assert.Contains("do not go together", error.Message, StringComparison.Ordinal);
    }
}
