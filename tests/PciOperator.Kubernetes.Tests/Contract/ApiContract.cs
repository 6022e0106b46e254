using System.Text;
using System.Text.Json;
using k8s.Models;
using PciOperator.Testing;

namespace PciOperator.Kubernetes.Tests.Contract;

/// <summary>
/// What the operator's programs rely on in an API server, asserted of the sandbox's and of a real one alike. Each test has a
/// namespace of its own.
/// </summary>
public abstract partial class ApiContract(TestApiServer server) : IAsyncLifetime
{
    private static int Namespaces;

    protected TestApiServer Server { get; } = server;

    protected EntityClient Client { get; } = server.Client(WidgetJsonContext.Default);

    protected string Ns { get; } = $"contract-{Environment.ProcessId:x}-{Interlocked.Increment(ref Namespaces)}";

    /// <summary>Ends a test that hangs.</summary>
    protected CancellationToken Ct { get; } = new CancellationTokenSource(TimeSpan.FromMinutes(1)).Token;

    /// <summary>
    /// Makes resource version 1 too old to watch from: widgets are younger on any real server, whose watch cache begins when the kind does.
    /// </summary>
    protected virtual void ForgetHistory() { }

    /// <summary>Whether core/v1 and events.k8s.io/v1 events are different things there, as on no cluster.</summary>
    protected bool KeepsEventGroupsApart => Server.IsTestBinary;

    public async ValueTask InitializeAsync()
    {
        await InstallWidgetsAsync();
        await Client.CreateAsync(new V1Namespace { Metadata = new V1ObjectMeta { Name = Ns } }, Ct);
    }

    public async ValueTask DisposeAsync()
    {
        await Client.DeleteAsync<V1Namespace>(Ns);
        Client.Dispose();
    }

    protected Widget New(string name, int? size = null, string? color = null, params (string, string)[] labels) =>
        Widget.Named(name, Ns, size, color, labels);

    protected Task<Widget> CreateAsync(string name, int? size = null, string? color = null, params (string, string)[] labels) =>
        Client.CreateAsync(New(name, size, color, labels), Ct);

    protected async Task<Widget> GetAsync(string name) =>
        await Client.GetAsync<Widget>(name, Ns, Ct) ?? throw new InvalidOperationException($"{name} is gone.");

    protected async Task<IReadOnlyList<string>> NamesAsync(string? labels = null, string? fields = null)
    {
        EntityList<Widget> list = await Client.ListAsync<Widget>(
            Ns,
            new ListOptions { LabelSelector = labels, FieldSelector = fields },
            Ct
        );
        return [.. list.Items.Select(w => w.Metadata.Name!).Order(StringComparer.Ordinal)];
    }

    private async Task InstallWidgetsAsync()
    {
        const string collection = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        const string path = collection + "/widgets.contract.pcioperator.test";
        byte[] body = Encoding.UTF8.GetBytes(Widget.CustomResourceDefinition);
        try
        {
            using JsonDocument made = await Client.SendRawAsync(HttpMethod.Post, collection, body, ct: Ct);
        }
        catch (ApiException e) when (e.IsAlreadyExists)
        {
            // From the test before, or, in a cluster that stays, from an earlier run.
            using JsonDocument renewed = await Client.SendRawAsync(HttpMethod.Patch, path, body, "application/merge-patch+json", Ct);
        }

        while (true)
        {
            using JsonDocument crd = await Client.GetRawAsync(path, Ct);
            if (
                crd.RootElement.TryGetProperty("status", out JsonElement status)
                && status.TryGetProperty("conditions", out JsonElement conditions)
                && conditions.ValueKind == JsonValueKind.Array
                && conditions
                    .EnumerateArray()
                    .Any(c => c.GetProperty("type").GetString() == "Established" && c.GetProperty("status").GetString() == "True")
            )
            {
                break;
            }

            await Task.Delay(20, Ct);
        }

        // Established comes shortly before the server really serves it.
        while (true)
        {
            try
            {
                await Client.ListAsync<Widget>("default", ct: Ct);
                return;
            }
            catch (ApiException e) when (e.IsNotFound)
            {
                await Task.Delay(20, Ct);
            }
        }
    }
}

/// <summary>The contract, kept by the sandbox's server.</summary>
public sealed class SandboxApiContract(SandboxServerFixture fixture) : ApiContract(fixture.Server), IClassFixture<SandboxServerFixture>
{
    protected override void ForgetHistory() => Server.Sandbox!.CompactHistory();
}

/// <summary>The contract, as a real server has it.</summary>
[Collection(RealServerCollection.Name)]
public sealed class RealApiContract(RealServerFixture fixture) : ApiContract(fixture.Server);

/// <summary>The contract, as k3s has it.</summary>
public sealed class K3sApiContract(K3sServerFixture fixture) : ApiContract(fixture.Server), IClassFixture<K3sServerFixture>;

/// <summary>The tests that share one real server.</summary>
[CollectionDefinition(Name)]
public sealed class RealServerCollection : ICollectionFixture<RealServerFixture>
{
    public const string Name = "real API server";
}
