using System.Net;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Prometheus;

namespace PciOperator.Kubernetes;

/// <summary>Where a <see cref="HealthServer"/> listens.</summary>
public sealed record HealthServerOptions
{
    /// <summary>Address; all by default.</summary>
    public IPAddress Address { get; init; } = IPAddress.IPv6Any;

    /// <summary>Port; 0: any free one.</summary>
    public int Port { get; init; } = 8080;

    /// <summary>Only <c>/metrics</c> is answered.</summary>
    public bool OnlyMetrics { get; init; }
}

/// <summary>
/// Answers <c>GET /healthz</c> (alive), <c>/readyz</c> (of use) and <c>/metrics</c>. A health answer is 200 <c>ok</c>, or 503
/// with the failed checks, one a line; <c>?verbose</c> lists all.
/// </summary>
public sealed class HealthServer(HealthServerOptions options, CollectorRegistry metrics, ILogger? logger = null, TimeProvider? time = null)
    : IAsyncDisposable
{
    private static readonly TimeSpan BetweenTries = TimeSpan.FromSeconds(2);

    private readonly Lock _lock = new();
    private readonly List<(string Name, Func<string?> Check)> _liveness = [];
    private readonly List<(string Name, Func<string?> Check)> _readiness = [];
    private readonly ILogger _logger = logger ?? NullLogger.Instance;
    private readonly TimeProvider _time = time ?? TimeProvider.System;
    private readonly CancellationTokenSource _stop = new();
    private WebApplication? _app;
    private Task _later = Task.CompletedTask;

    /// <summary>Adds a check of life; when it fails the kubelet restarts the program.</summary>
    /// <param name="name">A word that names it.</param>
    /// <param name="check">Null when well, else the reason. Must be quick; an exception counts as a reason.</param>
    public void AddLivenessCheck(string name, Func<string?> check)
    {
        lock (_lock)
            _liveness.Add((name, check));
    }

    /// <summary>Adds a check of readiness.</summary>
    /// <inheritdoc cref="AddLivenessCheck" path="/param"/>
    public void AddReadinessCheck(string name, Func<string?> check)
    {
        lock (_lock)
            _readiness.Add((name, check));
    }

    /// <summary>The port that it listens on; 0 before it does.</summary>
    public int Port { get; private set; }

    /// <summary>
    /// Begins to listen. A port that somebody has is tried again until it is free: what the program is there for does not wait for
    /// it. (A program that was killed while the kernel held one of its threads keeps its ports until that thread returns.)
    /// </summary>
    /// <exception cref="IOException">This machine has no such address.</exception>
    public async Task StartAsync(CancellationToken ct = default)
    {
        try
        {
            await ListenAsync(ct);
        }
        catch (IOException e) when (e.InnerException is AddressInUseException)
        {
            _logger.LogError(
                "Port {Port} is taken (ss -ltnp says by whom), so health and metrics are not served; it is tried again until it is free.",
                options.Port
            );
            _later = ListenLaterAsync();
        }
    }

    private async Task ListenLaterAsync()
    {
        while (true)
        {
            try
            {
                await Task.Delay(BetweenTries, _time, _stop.Token);
                await ListenAsync(_stop.Token);
                return;
            }
            catch (OperationCanceledException) when (_stop.IsCancellationRequested)
            {
                return;
            }
            catch (IOException)
            {
                // Said once.
            }
        }
    }

    private async Task StopTryingAsync()
    {
        await _stop.CancelAsync();
        await _later;
    }

    private async Task ListenAsync(CancellationToken ct)
    {
        // The empty builder: the others watch their folder for changes and read configuration from it.
        WebApplicationBuilder builder = WebApplication.CreateEmptyBuilder(
            new WebApplicationOptions { ContentRootPath = AppContext.BaseDirectory }
        );
        builder
            .WebHost.UseKestrelCore()
            .ConfigureKestrel(kestrel =>
            {
                kestrel.AddServerHeader = false;
                kestrel.Listen(options.Address, options.Port);
            });
        builder.Services.AddSingleton<ILoggerFactory>(NullLoggerFactory.Instance);
        WebApplication app = builder.Build();
        app.Run(AnswerAsync);
        try
        {
            await app.StartAsync(ct);
        }
        catch
        {
            await app.DisposeAsync();
            throw;
        }

        _app = app;
        string address = app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First();
        Port = new Uri(address).Port;
        _logger.LogInformation("Health and metrics on port {Port}.", Port);
    }

    /// <summary>Stops listening.</summary>
    public async Task StopAsync(CancellationToken ct = default)
    {
        await StopTryingAsync();
        if (_app is not null)
            await _app.StopAsync(ct);
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await StopTryingAsync();
        if (_app is not null)
            await _app.DisposeAsync();
        _stop.Dispose();
    }

    private async Task AnswerAsync(HttpContext context)
    {
        HttpResponse response = context.Response;
        if (!HttpMethods.IsGet(context.Request.Method) && !HttpMethods.IsHead(context.Request.Method))
        {
            response.StatusCode = StatusCodes.Status405MethodNotAllowed;
            response.Headers.Allow = "GET, HEAD";
            return;
        }

        switch (context.Request.Path.Value)
        {
            case "/metrics":
                response.ContentType = PrometheusConstants.TextContentTypeWithVersionAndEncoding;
                await metrics.CollectAndExportAsTextAsync(response.Body, context.RequestAborted);
                break;
            case "/healthz" or "/livez" when !options.OnlyMetrics:
                await AnswerHealthAsync(context, _liveness);
                break;
            case "/readyz" when !options.OnlyMetrics:
                await AnswerHealthAsync(context, _readiness);
                break;
            default:
                response.StatusCode = StatusCodes.Status404NotFound;
                break;
        }
    }

    private async Task AnswerHealthAsync(HttpContext context, List<(string Name, Func<string?> Check)> checks)
    {
        (string Name, Func<string?> Check)[] all;
        lock (_lock)
            all = [.. checks];
        var lines = new StringBuilder();
        bool failed = false;
        bool verbose = context.Request.Query.ContainsKey("verbose");
        foreach ((string name, Func<string?> check) in all)
        {
            string? reason = ReasonOf(check);
            failed |= reason is not null;
            if (reason is not null)
                lines.Append("[-]").Append(name).Append(" failed: ").Append(reason).Append('\n');
            else if (verbose)
                lines.Append("[+]").Append(name).Append(" ok\n");
        }

        context.Response.StatusCode = failed ? StatusCodes.Status503ServiceUnavailable : StatusCodes.Status200OK;
        context.Response.ContentType = "text/plain; charset=utf-8";
        await context.Response.WriteAsync(lines.Length == 0 ? "ok" : lines.ToString());
    }

    private static string? ReasonOf(Func<string?> check)
    {
#pragma warning disable CA1031 // Whatever a check throws is the reason why it fails.
        try
        {
            return check();
        }
        catch (Exception e)
        {
            return $"{e.GetType().Name}: {e.Message}";
        }
#pragma warning restore CA1031
    }
}
