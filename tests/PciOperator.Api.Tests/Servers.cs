using System.Text;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.ApiServer;
using PciOperator.Sandbox.Validation;
using PciOperator.Testing;

namespace PciOperator.Api.Tests;

/// <summary>An API server that knows our kinds: a class fixture.</summary>
public abstract class OwnKindsServer : IAsyncLifetime
{
    private TestApiServer? server;
    private EntityClient? client;

    /// <summary>A client as administrator; where there is no server the test is skipped (<see cref="Requirement"/>).</summary>
    public EntityClient Client
    {
        get
        {
            if (client is null)
                Requirement.IsMissing(RealServer.HowTo);
            return client;
        }
    }

    public async ValueTask InitializeAsync()
    {
        server = await StartAsync();
        if (server is null)
            return;
        client = server.Client(PciOperatorJsonContext.Default);
        await InstallAsync(client);
    }

    public async ValueTask DisposeAsync()
    {
        client?.Dispose();
        if (server is not null)
            await server.DisposeAsync();
    }

    protected abstract Task<TestApiServer?> StartAsync();

    protected abstract Task InstallAsync(EntityClient client);
}

/// <summary>The sandbox's, with the CRDs and rules compiled in.</summary>
public sealed class SandboxOwnKindsServer : OwnKindsServer
{
    protected override async Task<TestApiServer?> StartAsync() => await TestApiServer.SandboxAsync(new SandboxApiServerOptions
    {
        Crds = SandboxCrds.All,
        Validators = OwnResourceRules.Validators,
    });

    protected override Task InstallAsync(EntityClient client) => Task.CompletedTask;
}

/// <summary>A real one, with the CRDs applied.</summary>
public sealed class RealOwnKindsServer : OwnKindsServer
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    protected override async Task<TestApiServer?> StartAsync() => RealServer.IsConfigured ? await TestApiServer.RealAsync() : null;

    protected override async Task InstallAsync(EntityClient client)
    {
        foreach (var manifest in SandboxCrds.All.SelectMany(Manifest.Parse))
        {
            var path = $"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{manifest.Name}?fieldManager=tests&force=true&fieldValidation=Strict";
            using (await client.SendRawAsync(HttpMethod.Patch, path, Encoding.UTF8.GetBytes(manifest.Yaml), "application/apply-patch+yaml"))
            {
            }
            await ServedAsync(client, manifest);
        }
    }

    private static async Task ServedAsync(EntityClient client, Manifest manifest)
    {
        using var limit = new CancellationTokenSource(Patience);
        while (true)
        {
            try
            {
                using var list = await client.GetRawAsync($"/apis/{PciOperatorApi.GroupVersion}/{manifest.Name.Split('.')[0]}", limit.Token);
                return;
            }
            catch (ApiException e) when (e.IsNotFound && !limit.IsCancellationRequested)
            {
                await Task.Delay(TimeSpan.FromMilliseconds(50), limit.Token);
            }
        }
    }
}
