using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using k8s;
using k8s.Models;
using Microsoft.Extensions.Logging;
using Prometheus;

namespace PciOperator.Kubernetes;

/// <summary>One call, so that it can be sent more than once.</summary>
internal readonly record struct ApiCall(HttpMethod Method, string Path)
{
    public ReadOnlyMemory<byte> Body { get; init; }

    public string? ContentType { get; init; }

    public string Accept { get; init; } = "application/json";

    /// <summary>Sending it twice is the same as once.</summary>
    public bool Idempotent { get; init; }

    /// <summary>What it has to be allowed; null: whoever makes the call sees to a refusal.</summary>
    public ApiRight? Right { get; init; }

    /// <summary>The verb that metrics show.</summary>
    public string Verb { get; init; } = Method.Method;

    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(60);
}

/// <summary>HTTP to an API server: connections, credentials, bounded retries, errors as <see cref="ApiException"/>.</summary>
internal sealed class ApiTransport : IDisposable
{
    private const int MaxAttempts = 5;
    private static readonly TimeSpan MaxRetryAfter = TimeSpan.FromSeconds(30);
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

    public ApiTransport(
        KubernetesClientConfiguration configuration,
        TimeProvider time,
        ILogger logger,
        Func<HttpMessageHandler, HttpMessageHandler>? wrap,
        string userAgent,
        CollectorRegistry? metrics
    )
    {
        _configuration = configuration;
        _time = time;
        _logger = logger;
        _userAgent = userAgent;
        var server = new Uri(configuration.Host);
        _base = server.GetLeftPart(UriPartial.Path).TrimEnd('/');
        _host = server.Authority;
        Rights = new MissingRights(time, logger);
        MetricFactory factory = Metrics.WithCustomRegistry(metrics ?? Metrics.NewCustomRegistry());
        _requests = factory.CreateCounter(
            "rest_client_requests_total",
            "Number of HTTP requests, partitioned by status code, method, and host.",
            ["code", "method", "host"]
        );
        _durations = factory.CreateHistogram(
            "rest_client_request_duration_seconds",
            "Request latency in seconds, until the answer's headers. Broken down by verb, and host.",
            ["verb", "host"],
            HistogramBuckets.Seconds
        );
        HttpMessageHandler handler = CreateHandler(configuration);
        _http = new HttpMessageInvoker(wrap?.Invoke(handler) ?? handler, disposeHandler: true);
    }

    /// <summary>What calls were refused for want of.</summary>
    public MissingRights Rights { get; }

    private static SocketsHttpHandler CreateHandler(KubernetesClientConfiguration configuration) =>
        new()
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
            SslOptions = ClusterAccess.TlsOptions(configuration),
        };

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
    public async Task<HttpResponseMessage> SendAsync(ApiCall call, CancellationToken ct)
    {
        bool tokenRenewed = false;
        for (int attempt = 1; ; attempt++)
        {
            TimeSpan wait;
            try
            {
                (HttpResponseMessage? response, AuthenticationHeaderValue? header) = await SendOnceAsync(call, ct);
                if (response.IsSuccessStatusCode)
                {
                    Rights.Granted(call.Right);
                    return response;
                }

                ApiException error = await ErrorOfAsync(response, ct);
                response.Dispose();
                Rights.Refused(call.Right, error);
                if (error.IsUnauthorized && !tokenRenewed && _configuration.TokenProvider is IRenewedTokenProvider renewed)
                {
                    tokenRenewed = true;
                    renewed.Rejected(header);
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
        e.HttpRequestError
            is HttpRequestError.ConnectionError
                or HttpRequestError.NameResolutionError
                or HttpRequestError.SecureConnectionError;

    /// <summary>429, and 503 that says for how long: the server did not do it, and asks to be asked again.</summary>
    private static TimeSpan? RetryDelay(ApiException error)
    {
        if (error.StatusCode is not (HttpStatusCode.TooManyRequests or HttpStatusCode.ServiceUnavailable))
            return null;
        TimeSpan? delay = error.RetryAfter ?? (error.IsTooManyRequests ? TimeSpan.FromSeconds(1) : null);
        return delay > MaxRetryAfter ? MaxRetryAfter : delay;
    }

    private async Task<(HttpResponseMessage, AuthenticationHeaderValue?)> SendOnceAsync(ApiCall call, CancellationToken ct)
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
        AuthenticationHeaderValue? header = await HeaderAsync(ct);
        request.Headers.Authorization = header;
        if (call.ContentType is not null)
        {
            request.Content = new ReadOnlyMemoryContent(call.Body);
            request.Content.Headers.TryAddWithoutValidation("Content-Type", call.ContentType);
        }

        using var limit = new CancellationTokenSource(call.Timeout, _time);
        using var both = CancellationTokenSource.CreateLinkedTokenSource(ct, limit.Token);
        long started = Stopwatch.GetTimestamp();
        string code = "<error>";
        try
        {
            HttpResponseMessage response = await _http.SendAsync(request, both.Token);
            code = ((int)response.StatusCode).ToString();
            ShowWarnings(response);
            return (response, header);
        }
        catch (OperationCanceledException e) when (!ct.IsCancellationRequested)
        {
            throw new HttpRequestException(
                HttpRequestError.Unknown,
                $"{call.Method} {_base}{call.Path}: no answer within {call.Timeout.TotalSeconds:0} s.",
                e
            );
        }
        finally
        {
            _requests.WithLabels(code, call.Method.Method, _host).Inc();
            _durations.WithLabels(call.Verb, _host).Observe(Stopwatch.GetElapsedTime(started).TotalSeconds);
        }
    }

    private async Task<AuthenticationHeaderValue?> HeaderAsync(CancellationToken ct)
    {
        if (_configuration.TokenProvider is { } provider)
            return await provider.GetAuthenticationHeaderAsync(ct);
        return string.IsNullOrEmpty(_configuration.AccessToken)
            ? null
            : new AuthenticationHeaderValue("Bearer", _configuration.AccessToken);
    }

    /// <summary>The server's warnings (deprecated versions, unknown fields), each once.</summary>
    private void ShowWarnings(HttpResponseMessage response)
    {
        if (!response.Headers.NonValidated.TryGetValues("Warning", out HeaderStringValues values))
            return;
        foreach (string value in values)
        {
            if (_warned.Count < 1000 && _warned.TryAdd(value, true))
                _logger.LogWarning("API server: {Warning}", value);
        }
    }

    private static async Task<ApiException> ErrorOfAsync(HttpResponseMessage response, CancellationToken ct)
    {
        TimeSpan? retryAfter = response.Headers.RetryAfter?.Delta;
        V1Status? status = null;
        try
        {
            byte[] body = await ReadLimitedAsync(response, ct);
            try
            {
                status = JsonSerializer.Deserialize(body, EntityJson.Options.TypeInfo<V1Status>());
            }
            catch (JsonException)
            {
                string text = Encoding.UTF8.GetString(body.AsSpan(0, Math.Min(body.Length, 1024))).Trim();
                if (text.Length > 0)
                    status = new V1Status { Message = text };
            }
        }
        catch (Exception e) when (e is IOException or HttpRequestException)
        {
            // The code says enough.
        }

        if (status?.Kind is not (null or "Status") || status is null)
            status = new V1Status { Message = $"The API server answered {(int)response.StatusCode} {response.ReasonPhrase}." };
        return new ApiException(response.StatusCode, status, retryAfter);
    }

    private static async Task<byte[]> ReadLimitedAsync(HttpResponseMessage response, CancellationToken ct)
    {
        await using Stream stream = await response.Content.ReadAsStreamAsync(ct);
        using var buffer = new PooledReadBuffer(stream);
        await buffer.FillAtLeastAsync(1024 * 1024, ct);
        return buffer.Unread.ToArray();
    }

    public void Dispose() => _http.Dispose();
}
