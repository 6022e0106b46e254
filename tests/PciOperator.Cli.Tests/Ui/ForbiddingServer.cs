using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace PciOperator.Cli.Tests.Ui;

/// <summary>An API server to a tenant, who may list aliases, and claims of namespace <c>team</c>, where there is one.</summary>
internal sealed class ForbiddingServer : IAsyncDisposable
{
    private const string Claim = """
        {"apiVersion":"pcioperator.io/v1alpha1","kind":"PassthroughClaim",
         "metadata":{"name":"mine","namespace":"team","uid":"u1","resourceVersion":"5"},
         "spec":{"requests":[{"name":"gpu","alias":"nv","count":1}]},
         "status":{"phase":"Pending","conditions":[{"type":"Scheduled","status":"False","reason":"Unschedulable",
           "lastTransitionTime":"2026-01-01T00:00:00Z","message":"0/3 nodes can serve it: 3 have none free (1 wanted)."}]}}
        """;

    private readonly WebApplication _app;

    private ForbiddingServer(WebApplication app) => _app = app;

    public static async Task<ForbiddingServer> StartAsync(string kubeconfig)
    {
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        WebApplication app = builder.Build();
        app.Run(AnswerAsync);
        await app.StartAsync();
        string address = app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First();
        await File.WriteAllTextAsync(
            kubeconfig,
            $$$"""
            apiVersion: v1
            kind: Config
            current-context: c
            clusters: [{name: c, cluster: {server: "{{{address}}}"}}]
            users: [{name: u, user: {token: t}}]
            contexts: [{name: c, context: {cluster: c, user: u, namespace: team}}]
            """
        );
        return new ForbiddingServer(app);
    }

    public async ValueTask DisposeAsync()
    {
        using var now = new CancellationTokenSource();
        await now.CancelAsync();
        await _app.StopAsync(now.Token);
        await _app.DisposeAsync();
    }

    private static async Task AnswerAsync(HttpContext context)
    {
        string path = context.Request.Path.Value!;
        context.Response.ContentType = "application/json";
        if (path == "/version")
        {
            await context.Response.WriteAsync("{}");
        }
        else if (
            !path.EndsWith("/namespaces/team/passthroughclaims", StringComparison.Ordinal)
            && !path.EndsWith("/pcialiases", StringComparison.Ordinal)
        )
        {
            context.Response.StatusCode = StatusCodes.Status403Forbidden;
            string kind = path.Split('/')[^1];
            await context.Response.WriteAsync(
                $$"""{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":"{{kind}} is forbidden: User \"eve\" cannot list resource \"{{kind}}\""}"""
            );
        }
        else if (context.Request.Query["watch"].Count > 0)
        {
            await context.Response.Body.FlushAsync();
            await Task.Delay(Timeout.Infinite, context.RequestAborted).ContinueWith(_ => { }, TaskScheduler.Default);
        }
        else
        {
            string items = path.EndsWith("/pcialiases", StringComparison.Ordinal) ? "" : Claim;
            string kind = items.Length > 0 ? "PassthroughClaimList" : "PciAliasList";
            await context.Response.WriteAsync(
                $$"""{"apiVersion":"pcioperator.io/v1alpha1","kind":"{{kind}}","metadata":{"resourceVersion":"5"},"items":[{{items}}]}"""
            );
        }
    }
}
