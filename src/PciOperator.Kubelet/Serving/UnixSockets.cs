using System.Net.Sockets;
using Grpc.Net.Client;

namespace PciOperator.Kubelet;

/// <summary>gRPC of others' over a Unix socket.</summary>
internal static class UnixSockets
{
    /// <summary>A channel to a socket; it connects when it is first used.</summary>
    public static GrpcChannel Dial(string path)
    {
        var handler = new SocketsHttpHandler
        {
            ConnectCallback = async (_, ct) =>
            {
                var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                try
                {
                    await socket.ConnectAsync(new UnixDomainSocketEndPoint(path), ct);
                    return new NetworkStream(socket, ownsSocket: true);
                }
                catch
                {
                    socket.Dispose();
                    throw;
                }
            },
        };
        return GrpcChannel.ForAddress("http://localhost", new GrpcChannelOptions { HttpHandler = handler, DisposeHttpClient = true });
    }
}
