using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using PciOperator.Sandbox.Cluster;

namespace PciOperator.Cli.Tests;

/// <summary>
/// What a kubelet does of a port-forward: a kubectl that says where a pod's port is to be found here, and there the metrics that the node's
/// agent shows.
/// </summary>
internal sealed class PortForwards : IAsyncDisposable
{
    private readonly WebApplication _app;

    private PortForwards(WebApplication app, string kubectl) => (_app, Kubectl) = (app, kubectl);

    /// <summary>The program.</summary>
    public string Kubectl { get; }

    public static async Task<PortForwards> StartAsync(string folder, IEnumerable<SimulatedNode> nodes)
    {
        SimulatedNode[] served = [.. nodes];
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls([.. served.Select(_ => "http://127.0.0.1:0")]);
        WebApplication app = builder.Build();
        int[] ports = [];
        app.Run(async context =>
        {
            int at = Array.IndexOf(ports, context.Connection.LocalPort);
            if (at < 0 || context.Request.Path != "/metrics")
                context.Response.StatusCode = StatusCodes.Status404NotFound;
            else
                await served[at].Metrics.CollectAndExportAsTextAsync(context.Response.Body, context.RequestAborted);
        });
        await app.StartAsync();
        ports =
        [
            .. app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.Select(a => new Uri(a).Port),
        ];
        var script = new StringBuilder("#!/bin/sh\ncase \"$*\" in\n");
        foreach ((SimulatedNode node, int port) in served.Zip(ports))
        {
            script.Append(
                $"*\" port-forward \"*\"{node.Name}\"*\" :8081\") echo 'Forwarding from 127.0.0.1:{port} -> 8081'; exec sleep 600;;\n"
            );
        }

        script.Append("*) echo \"error: no such pod: $*\" >&2; exit 1;;\nesac\n");
        return new PortForwards(app, Write(folder, script.ToString()));
    }

    /// <summary>A program.</summary>
    public static string Write(string folder, string script)
    {
        string path = Path.Combine(folder, "kubectl");
        File.WriteAllText(path, script);
        File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        return path;
    }

    public async ValueTask DisposeAsync()
    {
        await _app.StopAsync();
        await _app.DisposeAsync();
    }
}
