using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.Json;
using Microsoft.Extensions.Logging;
using PciOperator.Kubernetes.Models;
using Prometheus;

namespace PciOperator.Kubernetes;

/// <summary>One call, so that it can be sent more than once.</summary>
internal readonly record struct KubernetesCall(HttpMethod Method, string Path)
{
    public ReadOnlyMemory<byte> Body { get; init; }

    public string? ContentType { get; init; }

    public string Accept { get; init; } = "application/json";

    /// <summary>Sending it twice is the same as once.</summary>
    public bool Idempotent { get; init; }

    /// <summary>The verb that metrics show.</summary>
    public string Verb { get; init; } = Method.Method;

    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(60);
}

/// <summary>HTTP to an API server: connections, credentials, bounded retries, errors as <see cref="KubernetesException"/>.</summary>
internal sealed class KubernetesTransport : IDisposable
{
    private const int MaxAttempts = 5;
    private static readonly TimeSpan s_maxRetryAfter = TimeSpan.FromSeconds(30);
    private readonly KubernetesClientConfiguration _configuration;
    private readonly HttpMessageInvoker _http;
    private readonly string _base;
    private readonly string _host;
    private readonly string _userAgent;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly Counter _requests;
    private readonly Histogram _durations;
    private readonly ConcurrentDictionary<string, bool> _warned = new();
    private volatile X509Certificate2? _certificate;

    public KubernetesTransport(
        KubernetesClientConfiguration configuration,
        TimeProvider time,
        ILogger logger,
        Func<HttpMessageHandler, HttpMessageHandler>? wrap,
        string userAgent,
        CollectorRegistry? metrics)
    {
        _configuration = configuration;
        _time = time;
        _logger = logger;
        _userAgent = userAgent;
        _base = configuration.Server.GetLeftPart(UriPartial.Path).TrimEnd('/');
        _host = configuration.Server.Authority;
        var factory = Metrics.WithCustomRegistry(metrics ?? Metrics.NewCustomRegistry());
        _requests = factory.CreateCounter("rest_client_requests_total", "Number of HTTP requests, partitioned by status code, method, and host.", ["code", "method", "host"]);
        _durations = factory.CreateHistogram("rest_client_request_duration_seconds", "Request latency in seconds, until the answer's headers. Broken down by verb, and host.", ["verb", "host"], HistogramBuckets.Seconds);
        HttpMessageHandler handler = CreateHandler();
        _http = new HttpMessageInvoker(wrap?.Invoke(handler) ?? handler, disposeHandler: true);
    }

    private SocketsHttpHandler CreateHandler()
    {
        var handler = new SocketsHttpHandler
        {
            UseProxy = false,
            UseCookies = false,
            AllowAutoRedirect = false,
            // HTTP/2 where TLS can negotiate it: any number of watches on few connections. A connection that went dead
            // without a word is noticed by pings, or, for HTTP/1.1, by TCP's own keep-alive.
            EnableMultipleHttp2Connections = true,
            KeepAlivePingPolicy = HttpKeepAlivePingPolicy.WithActiveRequests,
            KeepAlivePingDelay = TimeSpan.FromSeconds(30),
            KeepAlivePingTimeout = TimeSpan.FromSeconds(15),
            ConnectTimeout = TimeSpan.FromSeconds(15),
            PooledConnectionIdleTimeout = TimeSpan.FromMinutes(2),
            ConnectCallback = ConnectAsync,
        };
        var tls = handler.SslOptions;
        if (_configuration.SkipTlsVerify)
        {
#pragma warning disable CA5359 // insecure-skip-tls-verify is the user's own choice
            tls.RemoteCertificateValidationCallback = static (_, _, _, _) => true;
#pragma warning restore CA5359
        }
        else if (_configuration.CertificateAuthorities is { } authorities)
        {
            var policy = new X509ChainPolicy { TrustMode = X509ChainTrustMode.CustomRootTrust, RevocationMode = X509RevocationMode.NoCheck };
            policy.CustomTrustStore.AddRange(authorities);
            tls.CertificateChainPolicy = policy;
        }

        if (_configuration.ClientCertificate is { } certificate)
            tls.ClientCertificateContext = SslStreamCertificateContext.Create(certificate, _configuration.ClientCertificateChain, offline: true);
        else if (_configuration.Credentials is ExecCredentialSource)
            tls.LocalCertificateSelectionCallback = (_, _, _, _, _) => _certificate!;
        return handler;
    }

    private static async ValueTask<Stream> ConnectAsync(SocketsHttpConnectionContext context, CancellationToken ct)
    {
        var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        try
        {
            socket.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.KeepAlive, true);
            socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveTime, 20);
            socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveInterval, 10);
            socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveRetryCount, 3);
            await socket.ConnectAsync(context.DnsEndPoint, ct);
            return new NetworkStream(socket, ownsSocket: true);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    /// <summary>Sends a call and gives its successful answer, headers read, body not; the caller disposes it.</summary>
    public async Task<HttpResponseMessage> SendAsync(KubernetesCall call, CancellationToken ct)
    {
        var tokenRenewed = false;
        for (var attempt = 1; ; attempt++)
        {
            TimeSpan wait;
            try
            {
                var (response, credential) = await SendOnceAsync(call, ct);
                if (response.IsSuccessStatusCode)
                    return response;
                var error = await ErrorOfAsync(response, ct);
                response.Dispose();
                if (error.IsUnauthorized && credential is not null && !tokenRenewed)
                {
                    tokenRenewed = true;
                    _configuration.Credentials!.Rejected(credential);
                    continue;
                }

                if (attempt >= MaxAttempts || RetryDelay(error) is not { } delay)
                    throw error;
                _logger.LogDebug("{Method} {Path}: {Message} Again in {Delay}.", call.Method, call.Path, error.Message, delay);
                wait = delay;
            }
            catch (HttpRequestException e) when (attempt < MaxAttempts && (call.Idempotent || NeverSent(e)))
            {
                wait = TimeSpan.FromMilliseconds(25 * Math.Pow(4, attempt - 1));
                _logger.LogDebug("{Method} {Path}: {Message} Again in {Delay}.", call.Method, call.Path, e.Cause(), wait);
            }

            await Task.Delay(wait, _time, ct);
        }
    }

    private static bool NeverSent(HttpRequestException e) =>
        e.HttpRequestError is HttpRequestError.ConnectionError or HttpRequestError.NameResolutionError or HttpRequestError.SecureConnectionError;

    /// <summary>429, and 503 that says for how long: the server did not do it, and asks to be asked again.</summary>
    private static TimeSpan? RetryDelay(KubernetesException error)
    {
        if (error.StatusCode is not (HttpStatusCode.TooManyRequests or HttpStatusCode.ServiceUnavailable))
            return null;
        var delay = error.RetryAfter ?? (error.IsTooManyRequests ? TimeSpan.FromSeconds(1) : null);
        return delay > s_maxRetryAfter ? s_maxRetryAfter : delay;
    }

    private async Task<(HttpResponseMessage, Credential?)> SendOnceAsync(KubernetesCall call, CancellationToken ct)
    {
        using var request = new HttpRequestMessage(call.Method, new Uri(_base + call.Path))
        {
            Version = HttpVersion.Version20,
            VersionPolicy = HttpVersionPolicy.RequestVersionOrLower,
        };
        request.Headers.TryAddWithoutValidation("User-Agent", _userAgent);
        request.Headers.TryAddWithoutValidation("Accept", call.Accept);
        // SocketsHttpHandler verifies the certificate against, and sends as SNI, the name in this header.
        if (_configuration.TlsServerName is { Length: > 0 } name)
            request.Headers.Host = name;
        Credential? credential = null;
        if (_configuration.Credentials is { } source)
        {
            credential = await source.GetAsync(ct);
            _certificate = credential.ClientCertificate;
            if (credential.Token is not null)
                request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", credential.Token);
        }

        if (call.ContentType is not null)
        {
            request.Content = new ReadOnlyMemoryContent(call.Body);
            request.Content.Headers.TryAddWithoutValidation("Content-Type", call.ContentType);
        }

        using var limit = new CancellationTokenSource(call.Timeout, _time);
        using var both = CancellationTokenSource.CreateLinkedTokenSource(ct, limit.Token);
        var started = Stopwatch.GetTimestamp();
        var code = "<error>";
        try
        {
            var response = await _http.SendAsync(request, both.Token);
            code = ((int)response.StatusCode).ToString();
            ShowWarnings(response);
            return (response, credential);
        }
        catch (OperationCanceledException e) when (!ct.IsCancellationRequested)
        {
            throw new HttpRequestException(HttpRequestError.Unknown, $"{call.Method} {_base}{call.Path}: no answer within {call.Timeout.TotalSeconds:0} s.", e);
        }
        finally
        {
            _requests.WithLabels(code, call.Method.Method, _host).Inc();
            _durations.WithLabels(call.Verb, _host).Observe(Stopwatch.GetElapsedTime(started).TotalSeconds);
        }
    }

    /// <summary>The server's warnings (deprecated versions, unknown fields), each once.</summary>
    private void ShowWarnings(HttpResponseMessage response)
    {
        if (!response.Headers.NonValidated.TryGetValues("Warning", out var values))
            return;
        foreach (var value in values)
        {
            if (_warned.Count < 1000 && _warned.TryAdd(value, true))
                _logger.LogWarning("API server: {Warning}", value);
        }
    }

    private static async Task<KubernetesException> ErrorOfAsync(HttpResponseMessage response, CancellationToken ct)
    {
        var retryAfter = response.Headers.RetryAfter?.Delta;
        V1Status? status = null;
        try
        {
            var body = await ReadLimitedAsync(response, ct);
            try
            {
                status = JsonSerializer.Deserialize(body, KubernetesJson.Options.TypeInfo<V1Status>());
            }
            catch (JsonException)
            {
                var text = Encoding.UTF8.GetString(body.AsSpan(0, Math.Min(body.Length, 1024))).Trim();
                if (text.Length > 0)
                    status = new V1Status { Message = text };
            }
        }
        catch (Exception e) when (e is IOException or HttpRequestException)
        {
            // The code says enough.
        }

        if (status is null || status.Kind != "Status")
            status = new V1Status { Message = $"The API server answered {(int)response.StatusCode} {response.ReasonPhrase}." };
        return new KubernetesException(response.StatusCode, status, retryAfter);
    }

    private static async Task<byte[]> ReadLimitedAsync(HttpResponseMessage response, CancellationToken ct)
    {
        await using var stream = await response.Content.ReadAsStreamAsync(ct);
        using var buffer = new PooledReadBuffer(stream);
        await buffer.FillAtLeastAsync(1024 * 1024, ct);
        return buffer.Unread.ToArray();
    }

    public void Dispose() => _http.Dispose();
}
