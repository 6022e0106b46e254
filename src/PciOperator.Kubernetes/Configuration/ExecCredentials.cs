using System.ComponentModel;
using System.Diagnostics;
using System.Net.Http.Headers;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.Json;
using k8s.KubeConfigModels;

namespace PciOperator.Kubernetes;

/// <summary>The cluster as an exec plugin is told of it (<c>provideClusterInfo</c>).</summary>
internal sealed record ExecClusterInfo(string Server, string? TlsServerName, bool SkipTlsVerify, string? AuthorityPem);

/// <summary>
/// Credentials from a program (client.authentication.k8s.io, v1 and v1beta1): run when first needed, kept until shortly
/// before their expirationTimestamp (for ever when it has none), run again after a 401.
/// </summary>
#pragma warning disable CA1001 // The semaphore never makes a wait handle: there is nothing to dispose.
internal sealed class ExecCredentials(ExternalExecution exec, ExecClusterInfo? cluster = null, TimeProvider? time = null)
    : IRenewedTokenProvider
#pragma warning restore CA1001
{
    private static readonly TimeSpan Limit = TimeSpan.FromMinutes(1);

    // The program may take a moment, and the clocks may differ by as much.
    private static readonly TimeSpan RenewBefore = TimeSpan.FromSeconds(10);
    private readonly SemaphoreSlim _one = new(1, 1);
    private readonly TimeProvider _time = time ?? TimeProvider.System;
    private Answer? _answer;

    /// <summary>What a program gave: a token, a certificate, or both.</summary>
    private sealed record Answer(AuthenticationHeaderValue? Header, X509Certificate2? Certificate, DateTimeOffset? Expires);

    /// <summary>The certificate that goes with what <see cref="GetAuthenticationHeaderAsync"/> gave last; null: none.</summary>
    public X509Certificate2? ClientCertificate => Volatile.Read(ref _answer)?.Certificate;

    /// <summary>The program as the kubeconfig names it.</summary>
    internal ExternalExecution Program => exec;

    /// <inheritdoc cref="ExecClusterInfo"/>
    internal ExecClusterInfo? Cluster => cluster;

    /// <summary>The token; null when the program gave a certificate alone.</summary>
    public async Task<AuthenticationHeaderValue> GetAuthenticationHeaderAsync(CancellationToken cancellationToken)
    {
        await _one.WaitAsync(cancellationToken);
        try
        {
            Answer? answer = Volatile.Read(ref _answer);
            if (answer is null || (answer.Expires is { } expires && _time.GetUtcNow() >= expires - RenewBefore))
                Volatile.Write(ref _answer, answer = await RunAsync(cancellationToken));
            return answer.Header!;
        }
        finally
        {
            _one.Release();
        }
    }

    public void Rejected(AuthenticationHeaderValue? header)
    {
        Answer? answer = Volatile.Read(ref _answer);
        if (answer is not null && ReferenceEquals(answer.Header, header))
            Interlocked.CompareExchange(ref _answer, answer with { Expires = DateTimeOffset.UnixEpoch }, answer);
    }

    private async Task<Answer> RunAsync(CancellationToken ct)
    {
        var start = new ProcessStartInfo(exec.Command)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (string argument in exec.Arguments ?? [])
            start.ArgumentList.Add(argument ?? "");
        foreach (Dictionary<string, string>? variable in exec.EnvironmentVariables ?? [])
            start.Environment[variable.GetValueOrDefault("name") ?? ""] = variable.GetValueOrDefault("value") ?? "";
        start.Environment["KUBERNETES_EXEC_INFO"] = ExecInfo();

        using var limit = new CancellationTokenSource(Limit, _time);
        using var both = CancellationTokenSource.CreateLinkedTokenSource(ct, limit.Token);
        Process process;
        try
        {
            process = Process.Start(start) ?? throw new InvalidOperationException("no process");
        }
        catch (Exception e) when (e is Win32Exception or InvalidOperationException)
        {
            throw new KubeconfigException(
                $"Credential plugin {exec.Command} could not be started: {e.Message}. {exec.InstallHint}".TrimEnd(),
                e
            );
        }

        using (process)
        {
            process.StandardInput.Close();
            try
            {
                Task<string> output = process.StandardOutput.ReadToEndAsync(both.Token);
                Task<string> errors = process.StandardError.ReadToEndAsync(both.Token);
                await process.WaitForExitAsync(both.Token);
                if (process.ExitCode != 0)
                {
                    throw new KubeconfigException(
                        $"Credential plugin {exec.Command} ended with {process.ExitCode}: {(await errors).Trim()}"
                    );
                }

                return Parse(await output);
            }
            catch (OperationCanceledException) when (!process.HasExited)
            {
                process.Kill(entireProcessTree: true);
                ct.ThrowIfCancellationRequested();
                throw new KubeconfigException($"Credential plugin {exec.Command} did not answer within {Limit.TotalSeconds:0} s.");
            }
        }
    }

    private string ExecInfo()
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartObject();
            json.WriteString("apiVersion", exec.ApiVersion);
            json.WriteString("kind", "ExecCredential");
            json.WriteStartObject("spec");
            json.WriteBoolean("interactive", false);
            if (cluster is not null)
            {
                json.WriteStartObject("cluster");
                json.WriteString("server", cluster.Server);
                if (cluster.TlsServerName is not null)
                    json.WriteString("tls-server-name", cluster.TlsServerName);
                if (cluster.SkipTlsVerify)
                    json.WriteBoolean("insecure-skip-tls-verify", true);
                if (cluster.AuthorityPem is not null)
                    json.WriteBase64String("certificate-authority-data", Encoding.UTF8.GetBytes(cluster.AuthorityPem));
                json.WriteEndObject();
            }

            json.WriteEndObject();
            json.WriteEndObject();
        }

        return Encoding.UTF8.GetString(buffer.ToArray());
    }

    private Answer Parse(string output)
    {
        try
        {
            using var document = JsonDocument.Parse(output);
            JsonElement root = document.RootElement;
            if (Text(root, "kind") != "ExecCredential" || Text(root, "apiVersion") != exec.ApiVersion)
            {
                throw new KubeconfigException(
                    $"Credential plugin {exec.Command} answered {Text(root, "apiVersion")} {Text(root, "kind")}; expected {exec.ApiVersion} ExecCredential."
                );
            }

            if (!root.TryGetProperty("status", out JsonElement status) || status.ValueKind != JsonValueKind.Object)
                throw new KubeconfigException($"Credential plugin {exec.Command} answered without a status.");
            string? token = Text(status, "token");
            string? certificate = Text(status, "clientCertificateData");
            string? key = Text(status, "clientKeyData");
            if (string.IsNullOrEmpty(token) && (certificate is null || key is null))
            {
                throw new KubeconfigException(
                    $"Credential plugin {exec.Command} gave neither a token nor a client certificate with its key."
                );
            }

            X509Certificate2? leaf =
                certificate is not null && key is not null
                    ? Pem.ReadCertificateWithKey(certificate, key, $"certificate of credential plugin {exec.Command}").Leaf
                    : null;
            DateTimeOffset? expires =
                status.TryGetProperty("expirationTimestamp", out JsonElement at) && at.ValueKind == JsonValueKind.String
                    ? at.GetDateTimeOffset()
                    : null;
            return new Answer(string.IsNullOrEmpty(token) ? null : new AuthenticationHeaderValue("Bearer", token), leaf, expires);
        }
        catch (Exception e) when (e is JsonException or FormatException)
        {
            throw new KubeconfigException($"Credential plugin {exec.Command} did not answer with an ExecCredential: {e.Message}", e);
        }
    }

    private static string? Text(JsonElement element, string name) =>
        element.TryGetProperty(name, out JsonElement value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;
}
