using System.Diagnostics.CodeAnalysis;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;

namespace PciOperator.Testing;

/// <summary>Serves gRPC on a Unix socket, for what plays the kubelet's part.</summary>
internal static class GrpcOnSocket
{
    /// <summary>A server of one service, started. A socket that is there already is replaced.</summary>
    /// <remarks>Nothing but Kestrel on the socket: the other builders watch the content root, which walks the host when that is /.</remarks>
    public static async Task<WebApplication> ServeAsync<
        [DynamicallyAccessedMembers(
            DynamicallyAccessedMemberTypes.PublicConstructors
                | DynamicallyAccessedMemberTypes.PublicMethods
                | DynamicallyAccessedMemberTypes.NonPublicMethods
        )]
            T
    >(string path, T service)
        where T : class
    {
        File.Delete(path);
        WebApplicationBuilder builder = WebApplication.CreateEmptyBuilder(new() { ContentRootPath = AppContext.BaseDirectory });
        builder.WebHost.UseKestrelCore().ConfigureKestrel(k => k.ListenUnixSocket(path, o => o.Protocols = HttpProtocols.Http2));
        builder.Services.AddGrpc();
        builder.Services.AddRoutingCore();
        builder.Services.AddSingleton(service);
        WebApplication server = builder.Build();
        server.UseRouting();
        server.MapGrpcService<T>();
        await server.StartAsync();
        return server;
    }
}
