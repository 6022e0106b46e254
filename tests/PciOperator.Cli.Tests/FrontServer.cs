using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using PciOperator.Kubernetes;

namespace PciOperator.Cli.Tests;

/// <summary>A server in front of an API server: it answers some paths itself, as one that forbids or proxies would, and hands on the rest.</summary>
internal sealed class FrontServer : IAsyncDisposable
{
    private readonly WebApplication _app;
    private readonly IEntityClient _behind;
    private readonly Func<HttpContext, Task<bool>> _answer;

    private FrontServer(WebApplication app, IEntityClient behind, Func<HttpContext, Task<bool>> answer) =>
        (_app, _behind, _answer) = (app, behind, answer);

    /// <summary>A kubeconfig that leads to it.</summary>
    public string KubeconfigText { get; private set; } = "";

    /// <param name="behind">The API server; only read.</param>
    /// <param name="answer">Answers a request, or says that it doesn't.</param>
    public static async Task<FrontServer> StartAsync(IEntityClient behind, Func<HttpContext, Task<bool>> answer)
    {
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        WebApplication app = builder.Build();
        var front = new FrontServer(app, behind, answer);
        app.Run(front.AnswerAsync);
        await app.StartAsync();
        string address = app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First();
        front.KubeconfigText = $$$"""
            apiVersion: v1
            kind: Config
            current-context: c
            clusters: [{name: c, cluster: {server: "{{{address}}}"}}]
            users: [{name: u, user: {token: t}}]
            contexts: [{name: c, context: {cluster: c, user: u}}]
            """;
        return front;
    }

    /// <summary>What an API server says to who has no right.</summary>
    public static async Task<bool> ForbidAsync(HttpContext context)
    {
        string kind = context.Request.Path.Value!.Split('/')[^1];
        context.Response.StatusCode = StatusCodes.Status403Forbidden;
        context.Response.ContentType = "application/json";
        await context.Response.WriteAsync(
            $$"""{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":"{{kind}} is forbidden: User \"eve\" cannot list resource \"{{kind}}\""}"""
        );
        return true;
    }

    public async ValueTask DisposeAsync()
    {
        using var now = new CancellationTokenSource();
        await now.CancelAsync();
        await _app.StopAsync(now.Token);
        await _app.DisposeAsync();
    }

    private async Task AnswerAsync(HttpContext context)
    {
        if (await _answer(context))
            return;
        context.Response.ContentType = "application/json";
        try
        {
            using JsonDocument answer = await _behind.GetRawAsync(
                context.Request.Path.Value + context.Request.QueryString,
                context.RequestAborted
            );
            await context.Response.WriteAsync(answer.RootElement.GetRawText(), context.RequestAborted);
        }
        catch (ApiException refused)
        {
            context.Response.StatusCode = (int)refused.StatusCode!;
            await context.Response.WriteAsync(
                $$"""{"kind":"Status","apiVersion":"v1","status":"Failure","code":{{(int)refused.StatusCode}},"message":"behind"}""",
                context.RequestAborted
            );
        }
    }
}
