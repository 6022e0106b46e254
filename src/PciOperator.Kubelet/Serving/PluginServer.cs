using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace PciOperator.Kubelet;

/// <summary>gRPC on the plugins' sockets: Kestrel and nothing else.</summary>
internal static class PluginServer
{
    /// <summary>A server of the plugin's services, to be started; its sockets come later.</summary>
    public static WebApplication Build(PluginSockets sockets, ILoggerFactory logs, params object[] services)
    {
        // The other builders watch the content root, which walks the host when that is /.
        WebApplicationBuilder builder = WebApplication.CreateEmptyBuilder(new() { ContentRootPath = AppContext.BaseDirectory });
        builder.Services.AddSingleton(logs);
        builder.Services.AddSingleton<IConnectionListenerFactory>(sockets);
        builder
            .WebHost.UseKestrelCore()
            .ConfigureKestrel(k =>
            {
                k.AddServerHeader = false;
                k.Listen(sockets.EndPoint, o => o.Protocols = HttpProtocols.Http2);
            });
        builder.Services.AddGrpc();
        builder.Services.AddRoutingCore();
        foreach (object service in services)
            builder.Services.AddSingleton(service.GetType(), service);
        return builder.Build();
    }
}
