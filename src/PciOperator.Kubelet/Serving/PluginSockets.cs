using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Threading.Channels;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Microsoft.Extensions.Logging;

namespace PciOperator.Kubelet;

/// <summary>
/// Unix sockets that come and go under one server: Kestrel listens on what it was started with, and a plugin's sockets vanish with the
/// kubelet's folders, or with a claim. Thread-safe.
/// </summary>
internal sealed class PluginSockets(ILoggerFactory logs) : IConnectionListenerFactory, IConnectionListener
{
    /// <summary>sun_path of unix(7) has 108 bytes, one of which ends the name.</summary>
    public const int LongestPath = 107;

    private const int Waiting = 128;

    private readonly Channel<ConnectionContext> _connections = Channel.CreateUnbounded<ConnectionContext>();
    private readonly SocketConnectionContextFactory _factory = new(new SocketConnectionFactoryOptions(), logs.CreateLogger("sockets"));
    private readonly Lock _gate = new();
    private readonly Dictionary<string, Socket> _sockets = new(StringComparer.Ordinal);

    /// <inheritdoc/>
    public EndPoint EndPoint { get; } = new Plugins();

    /// <summary>Which socket a connection came in by.</summary>
    public static string? PathOf(Microsoft.AspNetCore.Http.HttpContext context) =>
        context.Features.Get<IConnectionItemsFeature>()?.Items.TryGetValue(typeof(PluginSockets), out object? path) == true
            ? path as string
            : null;

    /// <summary>Why nothing can be served at a path; null: it can.</summary>
    public static string? WhyNot(string path) =>
        Encoding.UTF8.GetByteCount(path) is var length && length > LongestPath
            ? $"{path} has {length} bytes, and a Unix socket's path at most {LongestPath}: give --kubelet-dir a shorter one"
            : null;

    /// <summary>Whether a process listens at a path: nobody does where connecting is refused.</summary>
    public static bool IsAnswered(string path)
    {
        using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            socket.Connect(new UnixDomainSocketEndPoint(path));
            return true;
        }
        catch (SocketException e)
        {
            return e.SocketErrorCode is not (SocketError.ConnectionRefused or SocketError.AddressNotAvailable);
        }
    }

    /// <summary>Whether a path is served, and its socket is still where it was put.</summary>
    public bool IsServed(string path)
    {
        lock (_gate)
            return _sockets.ContainsKey(path) && File.Exists(path);
    }

    /// <summary>Serves at a path, in place of what is there.</summary>
    /// <exception cref="IOException">It can't be served there.</exception>
    public void Serve(string path)
    {
        if (WhyNot(path) is { } why)
            throw new IOException(why);
        lock (_gate)
        {
            Stop(path);
            File.Delete(path);
            var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            try
            {
                socket.Bind(new UnixDomainSocketEndPoint(path));
                socket.Listen(Waiting);
            }
            catch (SocketException e)
            {
                socket.Dispose();
                throw new IOException($"{path} can't be served: {e.Message}", e);
            }

            _sockets[path] = socket;
            _ = AcceptAsync(socket, path);
        }
    }

    /// <summary>Serves there no more, and removes the socket.</summary>
    public void Stop(string path)
    {
        lock (_gate)
        {
            // .NET removes what it has bound.
            if (_sockets.Remove(path, out Socket? socket))
                socket.Dispose();
        }
    }

    ValueTask<IConnectionListener> IConnectionListenerFactory.BindAsync(EndPoint endpoint, CancellationToken cancellationToken) =>
        new(this);

    async ValueTask<ConnectionContext?> IConnectionListener.AcceptAsync(CancellationToken cancellationToken)
    {
        while (await _connections.Reader.WaitToReadAsync(cancellationToken))
        {
            if (_connections.Reader.TryRead(out ConnectionContext? connection))
                return connection;
        }

        return null;
    }

    ValueTask IConnectionListener.UnbindAsync(CancellationToken cancellationToken)
    {
        StopAll();
        _connections.Writer.TryComplete();
        return default;
    }

    /// <inheritdoc/>
    public ValueTask DisposeAsync()
    {
        StopAll();
        _connections.Writer.TryComplete();
        _factory.Dispose();
        return default;
    }

    private void StopAll()
    {
        lock (_gate)
        {
            foreach (string path in _sockets.Keys.ToList())
                Stop(path);
        }
    }

    private async Task AcceptAsync(Socket socket, string path)
    {
        while (true)
        {
            Socket connection;
            try
            {
                connection = await socket.AcceptAsync();
            }
            catch (Exception e) when (e is ObjectDisposedException or SocketException { SocketErrorCode: SocketError.OperationAborted })
            {
                return;
            }
            catch (SocketException)
            {
                // One connection that failed (it was reset, or there was no descriptor left for it) is that connection's trouble.
                await Task.Delay(100);
                continue;
            }

            ConnectionContext context = _factory.Create(connection);
            context.Items[typeof(PluginSockets)] = path;
            if (!_connections.Writer.TryWrite(context))
                await context.DisposeAsync();
        }
    }

    /// <summary>Stands for all of them: where Kestrel is told to listen.</summary>
    private sealed class Plugins : EndPoint
    {
        public override string ToString() => "the kubelet's plugins";
    }
}
