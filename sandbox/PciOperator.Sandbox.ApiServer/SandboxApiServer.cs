using System.Net;
using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using PciOperator.Sandbox.ApiServer.Http;

namespace PciOperator.Sandbox.ApiServer;

/// <summary>
/// A Kubernetes API server in this process, for kubectl and the operator's programs: HTTPS on 127.0.0.1, everything in
/// memory. It has no controllers but two small ones, see <see cref="SandboxApiServerOptions"/>.
/// </summary>
public sealed class SandboxApiServer : IAsyncDisposable
{
    private readonly WebApplication _app;
    private readonly Certificates _certificates;
    private readonly ApiCore _core;

    private SandboxApiServer(WebApplication app, Certificates certificates, ApiCore core, Uri url, string token)
    {
        _app = app;
        _certificates = certificates;
        _core = core;
        Url = url;
        KubeconfigText = Kubeconfig(url, certificates.AuthorityPem, token);
    }

    /// <summary>Where the server listens, as <c>https://127.0.0.1:6443/</c>.</summary>
    public Uri Url { get; }

    /// <summary>A kubeconfig (YAML) with which its holder is the administrator.</summary>
    public string KubeconfigText { get; }

    /// <summary>Forgets all changes up to now, as etcd's compaction does: what resumes from before gets 410.</summary>
    public void CompactHistory() => _core.Store.Compact();

    /// <summary>Starts a server; it answers when this returns.</summary>
    /// <exception cref="IOException">The port is taken.</exception>
    /// <exception cref="ArgumentException">A CustomResourceDefinition of the options can't be installed.</exception>
    public static async Task<SandboxApiServer> StartAsync(SandboxApiServerOptions? options = null, CancellationToken ct = default)
    {
        options ??= new SandboxApiServerOptions();
        string token = Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(24));
        var certificates = new Certificates();
        var core = new ApiCore(options);
        core.Install(options.Crds);
        var router = new Router(core, token);

        WebApplicationBuilder builder = WebApplication.CreateEmptyBuilder(
            new WebApplicationOptions { ContentRootPath = AppContext.BaseDirectory }
        );
        builder
            .WebHost.UseKestrelCore()
            .UseKestrelHttpsConfiguration()
            .ConfigureKestrel(kestrel =>
            {
                kestrel.AddServerHeader = false;
                kestrel.Limits.MaxRequestBodySize = null;
                kestrel.Limits.MinRequestBodyDataRate = null;
                kestrel.Limits.MinResponseDataRate = null;
                kestrel.Limits.Http2.MaxStreamsPerConnection = 10_000;
                kestrel.Listen(
                    IPAddress.Loopback,
                    options.Port,
                    listen =>
                    {
                        listen.Protocols = HttpProtocols.Http1AndHttp2;
                        listen.UseHttps(certificates.Server);
                    }
                );
            });
        WebApplication app = builder.Build();
        app.Run(context =>
        {
            options.OnRequest?.Invoke(context.Request.Method, context.Request.Path.Value ?? "/");
            return router.HandleAsync(context);
        });
        await app.StartAsync(ct);
        string address = app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First();
        return new SandboxApiServer(app, certificates, core, new Uri(address), token);
    }

    /// <summary>Ends all watches and stops.</summary>
    public async ValueTask DisposeAsync()
    {
        _core.Stop();
        await _app.StopAsync();
        await _app.DisposeAsync();
        _certificates.Dispose();
        _core.Dispose();
    }

    private static string Kubeconfig(Uri url, string authority, string token) =>
        $"""
            apiVersion: v1
            kind: Config
            current-context: sandbox
            clusters:
            - name: sandbox
              cluster:
                server: {url.GetLeftPart(UriPartial.Authority)}
                certificate-authority-data: {Convert.ToBase64String(Encoding.ASCII.GetBytes(authority))}
            contexts:
            - name: sandbox
              context:
                cluster: sandbox
                user: admin
                namespace: default
            users:
            - name: admin
              user:
                token: {token}

            """;
}
