using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace PciOperator.Cli.Ui;

/// <summary>
/// Serves the page on loopback. Whoever can connect is not yet who may read: other users of the machine can, and web pages in the same
/// browser. So an address has a secret in it that no other process is told, the Host header has to be loopback's (a name that is made
/// to point here later is refused), there is nothing but GET, and no other site may read, frame or embed what is served.
/// </summary>
internal sealed class PageServer : IAsyncDisposable
{
    private const int MostConnections = 64;
    private const int SecretBytes = 24;
    private const string Text = "text/plain; charset=utf-8";

    /// <summary>What a browser may do with the page: run and load what came with it, and talk to where it came from.</summary>
    internal const string Policy =
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        + "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

    private static readonly Dictionary<string, string> Files = new()
    {
        ["page.html"] = "text/html; charset=utf-8",
        ["page.css"] = "text/css; charset=utf-8",
        ["page.js"] = "text/javascript; charset=utf-8",
        ["icon.svg"] = "image/svg+xml",
    };

    private readonly PageFeed _feed;
    private readonly Func<string, string, CancellationToken, Task<ExplanationCard>> _explain;
    private readonly CancellationToken _end;
    private readonly byte[] _secret;
    private WebApplication? _app;

    private PageServer(PageFeed feed, Func<string, string, CancellationToken, Task<ExplanationCard>> explain, CancellationToken end)
    {
        (_feed, _explain, _end) = (feed, explain, end);
        _secret = Encoding.ASCII.GetBytes(Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(SecretBytes)));
    }

    /// <summary>The port that it listens on.</summary>
    public int Port { get; private set; }

    /// <summary>Where the page is, with the secret.</summary>
    public string Address => $"http://127.0.0.1:{Port}/{Encoding.ASCII.GetString(_secret)}/";

    /// <summary>Listens on 127.0.0.1 and, where the machine has it, ::1.</summary>
    /// <param name="port">Port of both; 0: any that is free.</param>
    /// <param name="feed">What pages are told.</param>
    /// <param name="explain">Explains the claim of a namespace and name.</param>
    /// <param name="end">Ends what is being sent.</param>
    /// <exception cref="CliException">Somebody has the port.</exception>
    public static async Task<PageServer> StartAsync(
        int port,
        PageFeed feed,
        Func<string, string, CancellationToken, Task<ExplanationCard>> explain,
        CancellationToken end
    )
    {
        var server = new PageServer(feed, explain, end);
        IReadOnlyDictionary<EndPoint, Socket> sockets = Bind(port);
        server.Port = ((IPEndPoint)sockets.Keys.First()).Port;
        // The empty builder: the others watch their folder for changes and read configuration from it and from the environment.
        WebApplicationBuilder builder = WebApplication.CreateEmptyBuilder(
            new WebApplicationOptions { ContentRootPath = AppContext.BaseDirectory }
        );
        builder
            .WebHost.UseKestrelCore()
            .UseSockets(transport => transport.CreateBoundListenSocket = endpoint => sockets[endpoint])
            .ConfigureKestrel(kestrel =>
            {
                kestrel.AddServerHeader = false;
                kestrel.Limits.MaxConcurrentConnections = MostConnections;
                kestrel.Limits.MaxRequestBodySize = 0;
                foreach (EndPoint endpoint in sockets.Keys)
                    kestrel.Listen(endpoint);
            });
        builder.Services.AddSingleton<ILoggerFactory>(NullLoggerFactory.Instance);
        server._app = builder.Build();
        server._app.Run(server.AnswerAsync);
        await server._app.StartAsync(end);
        return server;
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        if (_app is not null)
            await _app.DisposeAsync();
    }

    private static Dictionary<EndPoint, Socket> Bind(int port)
    {
        const int attempts = 10;
        for (int attempt = 1; ; attempt++)
        {
            var sockets = new Dictionary<EndPoint, Socket>();
            try
            {
                Add(sockets, IPAddress.Loopback, port);
                // The same port of ::1, lest somebody else answers to the name localhost there.
                if (HasIPv6())
                    Add(sockets, IPAddress.IPv6Loopback, ((IPEndPoint)sockets.Keys.Single()).Port);
                return sockets;
            }
            catch (SocketException e)
            {
                foreach (Socket socket in sockets.Values)
                    socket.Dispose();
                if (port == 0 && attempt < attempts && e.SocketErrorCode == SocketError.AddressAlreadyInUse)
                    continue;
                throw new CliException(
                    ExitCodes.Failed,
                    $"Port {port} of loopback can't be had: {e.Message}. Choose another with --port, or none for any that is free."
                );
            }
        }
    }

    private static void Add(Dictionary<EndPoint, Socket> sockets, IPAddress address, int port)
    {
        var socket = new Socket(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        try
        {
            if (address.AddressFamily == AddressFamily.InterNetworkV6)
                socket.DualMode = false;
            socket.Bind(new IPEndPoint(address, port));
            sockets.Add(socket.LocalEndPoint!, socket);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    private static bool HasIPv6()
    {
        if (!Socket.OSSupportsIPv6)
            return false;
        try
        {
            using var socket = new Socket(AddressFamily.InterNetworkV6, SocketType.Stream, ProtocolType.Tcp);
            socket.Bind(new IPEndPoint(IPAddress.IPv6Loopback, 0));
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }

    private async Task AnswerAsync(HttpContext context)
    {
        HttpResponse response = context.Response;
        response.Headers.CacheControl = "no-store";
        response.Headers.XContentTypeOptions = "nosniff";
        response.Headers.XFrameOptions = "DENY";
        response.Headers.ContentSecurityPolicy = Policy;
        response.Headers["Referrer-Policy"] = "no-referrer";
        response.Headers["Cross-Origin-Resource-Policy"] = "same-origin";
        response.Headers["Cross-Origin-Opener-Policy"] = "same-origin";
        if (!IsLoopback(context.Request.Host))
            await RefuseAsync(response, StatusCodes.Status421MisdirectedRequest, "This is served to 127.0.0.1, [::1] and localhost only.");
        else if (!HasSecret(context.Request.Path, out string name))
            await RefuseAsync(response, StatusCodes.Status403Forbidden, "Open the whole address that kubectl pci ui printed.");
        else if (!HttpMethods.IsGet(context.Request.Method))
            await RefuseAsync(response, StatusCodes.Status405MethodNotAllowed, "Nothing can be changed here.");
        else
            await AnswerAsync(context, name);
    }

    private async Task AnswerAsync(HttpContext context, string name)
    {
        HttpResponse response = context.Response;
        using var either = CancellationTokenSource.CreateLinkedTokenSource(context.RequestAborted, _end);
        try
        {
            switch (name.Length == 0 ? "page.html" : name)
            {
                case "events":
                    response.ContentType = "text/event-stream; charset=utf-8";
                    await _feed.SendAsync(response.Body, either.Token);
                    break;
                case "explain":
                    IQueryCollection query = context.Request.Query;
                    response.ContentType = "application/json; charset=utf-8";
                    await JsonSerializer.SerializeAsync(
                        response.Body,
                        await _explain($"{query["namespace"]}", $"{query["name"]}", either.Token),
                        PageJsonContext.Default.ExplanationCard,
                        either.Token
                    );
                    break;
                case var file when Files.TryGetValue(file, out string? type):
                    response.ContentType = type;
                    await using (Stream content = typeof(PageServer).Assembly.GetManifestResourceStream($"page/{file}")!)
                        await content.CopyToAsync(response.Body, either.Token);
                    break;
                default:
                    await RefuseAsync(response, StatusCodes.Status404NotFound, "There is no such thing here.");
                    break;
            }
        }
        catch (OperationCanceledException) when (either.IsCancellationRequested)
        {
            // The page was closed, or the program ends.
        }
    }

    private bool IsLoopback(HostString host) => host.Port == Port && (host.Host is "127.0.0.1" or "[::1]" or "localhost");

    /// <summary>Whether a path begins with the secret; takes the same time however much of it is right.</summary>
    private bool HasSecret(PathString path, out string name)
    {
        string[] parts = (path.Value ?? "").Split('/', 3);
        name = parts.Length == 3 ? parts[2] : "";
        return parts.Length == 3 && CryptographicOperations.FixedTimeEquals(Encoding.UTF8.GetBytes(parts[1]), _secret);
    }

    private static async Task RefuseAsync(HttpResponse response, int status, string why)
    {
        response.StatusCode = status;
        response.ContentType = Text;
        if (status == StatusCodes.Status405MethodNotAllowed)
            response.Headers.Allow = "GET";
        await response.WriteAsync(why + "\n");
    }
}
