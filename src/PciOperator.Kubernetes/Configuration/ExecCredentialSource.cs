using System.ComponentModel;
using System.Diagnostics;
using System.Text;
using System.Text.Json;

namespace PciOperator.Kubernetes;

/// <summary>The cluster as an exec plugin is told of it (<c>provideClusterInfo</c>).</summary>
internal sealed record ExecClusterInfo(string Server, string? TlsServerName, bool SkipTlsVerify, string? AuthorityPem);

/// <summary>
/// Credentials from a program (client.authentication.k8s.io, v1 and v1beta1): run when first needed, kept until shortly
/// before their expirationTimestamp (for ever when it has none), run again after a 401.
/// </summary>
#pragma warning disable CA1001 // The semaphore never makes a wait handle: there is nothing to dispose.
internal sealed class ExecCredentialSource : CredentialSource
#pragma warning restore CA1001
{
    private static readonly TimeSpan s_limit = TimeSpan.FromMinutes(1);
    // The program may take a moment, and the clocks may differ by as much.
    private static readonly TimeSpan s_renewBefore = TimeSpan.FromSeconds(10);
    private readonly SemaphoreSlim _one = new(1, 1);
    private Credential? _credential;
    private DateTimeOffset? _expires;

    public required string ApiVersion { get; init; }

    public required string Command { get; init; }

    public IReadOnlyList<string> Arguments { get; init; } = [];

    public IReadOnlyList<KeyValuePair<string, string>> Environment { get; init; } = [];

    public string? InstallHint { get; init; }

    public ExecClusterInfo? Cluster { get; init; }

    public TimeProvider Time { get; init; } = TimeProvider.System;

    public override async ValueTask<Credential> GetAsync(CancellationToken ct)
    {
        await _one.WaitAsync(ct);
        try
        {
            if (_credential is null || (_expires is { } expires && Time.GetUtcNow() >= expires - s_renewBefore))
                (_credential, _expires) = await RunAsync(ct);
            return _credential;
        }
        finally
        {
            _one.Release();
        }
    }

    public override void Rejected(Credential credential) =>
        Interlocked.CompareExchange(ref _credential, null, credential);

    private async Task<(Credential, DateTimeOffset?)> RunAsync(CancellationToken ct)
    {
        var start = new ProcessStartInfo(Command)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (var argument in Arguments)
            start.ArgumentList.Add(argument);
        foreach (var (name, value) in Environment)
            start.Environment[name] = value;
        start.Environment["KUBERNETES_EXEC_INFO"] = ExecInfo();

        using var limit = new CancellationTokenSource(s_limit, Time);
        using var both = CancellationTokenSource.CreateLinkedTokenSource(ct, limit.Token);
        Process process;
        try
        {
            process = Process.Start(start) ?? throw new InvalidOperationException("no process");
        }
        catch (Exception e) when (e is Win32Exception or InvalidOperationException)
        {
            throw new KubeconfigException($"Credential plugin {Command} could not be started: {e.Message}. {InstallHint}".TrimEnd(), e);
        }

        using (process)
        {
            process.StandardInput.Close();
            try
            {
                var output = process.StandardOutput.ReadToEndAsync(both.Token);
                var errors = process.StandardError.ReadToEndAsync(both.Token);
                await process.WaitForExitAsync(both.Token);
                if (process.ExitCode != 0)
                    throw new KubeconfigException($"Credential plugin {Command} ended with {process.ExitCode}: {(await errors).Trim()}");
                return Parse(await output);
            }
            catch (OperationCanceledException) when (!process.HasExited)
            {
                process.Kill(entireProcessTree: true);
                ct.ThrowIfCancellationRequested();
                throw new KubeconfigException($"Credential plugin {Command} did not answer within {s_limit.TotalSeconds:0} s.");
            }
        }
    }

    private string ExecInfo()
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartObject();
            json.WriteString("apiVersion", ApiVersion);
            json.WriteString("kind", "ExecCredential");
            json.WriteStartObject("spec");
            json.WriteBoolean("interactive", false);
            if (Cluster is not null)
            {
                json.WriteStartObject("cluster");
                json.WriteString("server", Cluster.Server);
                if (Cluster.TlsServerName is not null)
                    json.WriteString("tls-server-name", Cluster.TlsServerName);
                if (Cluster.SkipTlsVerify)
                    json.WriteBoolean("insecure-skip-tls-verify", true);
                if (Cluster.AuthorityPem is not null)
                    json.WriteBase64String("certificate-authority-data", Encoding.UTF8.GetBytes(Cluster.AuthorityPem));
                json.WriteEndObject();
            }

            json.WriteEndObject();
            json.WriteEndObject();
        }

        return Encoding.UTF8.GetString(buffer.ToArray());
    }

    private (Credential, DateTimeOffset?) Parse(string output)
    {
        try
        {
            using var document = JsonDocument.Parse(output);
            var root = document.RootElement;
            if (Text(root, "kind") != "ExecCredential" || Text(root, "apiVersion") != ApiVersion)
                throw new KubeconfigException($"Credential plugin {Command} answered {Text(root, "apiVersion")} {Text(root, "kind")}; expected {ApiVersion} ExecCredential.");
            if (!root.TryGetProperty("status", out var status) || status.ValueKind != JsonValueKind.Object)
                throw new KubeconfigException($"Credential plugin {Command} answered without a status.");
            var token = Text(status, "token");
            var certificate = Text(status, "clientCertificateData");
            var key = Text(status, "clientKeyData");
            if (string.IsNullOrEmpty(token) && (certificate is null || key is null))
                throw new KubeconfigException($"Credential plugin {Command} gave neither a token nor a client certificate with its key.");
            var leaf = certificate is not null && key is not null
                ? Kubeconfig.ReadCertificateWithKey(certificate, key, $"certificate of credential plugin {Command}").Leaf
                : null;
            DateTimeOffset? expires = status.TryGetProperty("expirationTimestamp", out var at) && at.ValueKind == JsonValueKind.String ? at.GetDateTimeOffset() : null;
            return (new Credential(string.IsNullOrEmpty(token) ? null : token, leaf), expires);
        }
        catch (Exception e) when (e is JsonException or FormatException)
        {
            throw new KubeconfigException($"Credential plugin {Command} did not answer with an ExecCredential: {e.Message}", e);
        }
    }

    private static string? Text(JsonElement element, string name) =>
        element.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;
}
