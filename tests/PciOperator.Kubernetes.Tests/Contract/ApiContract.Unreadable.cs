using System.Text;
using System.Text.Json.Serialization;
using k8s;
using k8s.Models;

namespace PciOperator.Kubernetes.Tests.Contract;

public abstract partial class ApiContract
{
    private static readonly string[] StorableTimes =
    [
        "2016-12-31t23:59:59z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "2016-12-31T23:59:59.1234567890123Z",
    ];

    [Fact]
    public async Task A_time_or_number_that_the_server_stores_is_read()
    {
        for (int i = 0; i < StorableTimes.Length; i++)
        {
            await RawAsync(
                $$$$"""{"apiVersion":"contract.pcioperator.test/v1","kind":"Widget","metadata":{"name":"w{{{{i}}}}"},"spec":{"parts":[{"name":"p","count":9223372036854775807}]}}"""
            );
            await Client.PatchAsync<Widget>(
                $"w{i}",
                Ns,
                EntityPatch.Merge(
                    $$"""{"status":{"conditions":[{"type":"Ready","status":"True","lastTransitionTime":"{{StorableTimes[i]}}"}]} }"""
                ),
                "status",
                Ct
            );
        }

        EntityList<Widget> list = await Client.ListAsync<Widget>(Ns, ct: Ct);
        Assert.Empty(list.Unreadable);
        Assert.Equal(StorableTimes.Length, list.Items.Count);
        var second = new DateTime(2016, 12, 31, 23, 59, 59, DateTimeKind.Utc);
        Assert.Equal(
            [second, DateTime.MinValue, DateTime.MinValue, DateTime.MaxValue, second.AddTicks(1_234_567)],
            list.Items.OrderBy(w => w.Metadata.Name, StringComparer.Ordinal).Select(w => w.Status!.Conditions!.Single().LastTransitionTime)
        );
        Assert.All(list.Items, w => Assert.Equal(int.MaxValue, w.Spec.Parts!.Single().Count));
    }

    [Fact]
    public async Task An_object_that_cannot_be_read_is_named_while_the_others_are_listed_and_watched()
    {
        await CreateAsync("a");
        await ShapeAsync("bad", "triangular");
        using EntityClient client = Server.Client(ShapedJsonContext.Default);
        await using var cache = new WatchCache<ShapedWidget>(client, Ns);
        using var changes = new ChangeLog<ShapedWidget>(cache, w => $"{w.Metadata.Name} {w.Spec.Shape}");
        _ = cache.RunAsync(Ct);
        await cache.WaitForSyncAsync(Ct);
        Assert.Equal("Added a Round", await changes.NextAsync(Ct));
        Assert.True(cache.IsUnreadable("bad", Ns));

        await ShapeAsync("worse", "hexagonal");
        await Client.PatchAsync<Widget>("a", Ns, EntityPatch.Merge("""{"spec":{"shape":"oval"}}"""), ct: Ct);
        await ShapeAsync("b", "square");
        Assert.Equal("Added b Square", await changes.NextAsync(Ct));
        Assert.Equal(["a", "bad", "worse"], cache.Unreadable.Select(u => u.Key.Name).Order());
        Assert.Equal(ShapedWidget.WidgetShape.Round, cache.Get("a", Ns)!.Spec.Shape);

        await Client.DeleteAsync<Widget>("worse", Ns, ct: Ct);
        await Client.DeleteAsync<Widget>("a", Ns, ct: Ct);
        Assert.Equal("Deleted a Round", await changes.NextAsync(Ct));
        Assert.Equal(["bad"], cache.Unreadable.Select(u => u.Key.Name));
        await Client.PatchAsync<Widget>("bad", Ns, EntityPatch.Merge("""{"spec":{"shape":"round"}}"""), ct: Ct);
        Assert.Equal("Added bad Round", await changes.NextAsync(Ct));
        Assert.Empty(cache.Unreadable);
    }

    private Task ShapeAsync(string name, string shape) =>
        RawAsync(
            $$$"""{"apiVersion":"contract.pcioperator.test/v1","kind":"Widget","metadata":{"name":"{{{name}}}"},"spec":{"shape":"{{{shape}}}"} }"""
        );

    private async Task RawAsync(string json)
    {
        using System.Text.Json.JsonDocument made = await Client.SendRawAsync(
            HttpMethod.Post,
            $"/apis/contract.pcioperator.test/v1/namespaces/{Ns}/widgets",
            Encoding.UTF8.GetBytes(json),
            ct: Ct
        );
    }
}

/// <summary>
/// A reader of Widgets that is stricter than their schema, as a program is whose kinds the server has in a later version.
/// </summary>
[KubernetesEntity(Group = "contract.pcioperator.test", ApiVersion = "v1", Kind = "Widget", PluralName = "widgets")]
public sealed record ShapedWidget : IKubernetesObject<V1ObjectMeta>
{
    public string? ApiVersion { get; set; }

    public string? Kind { get; set; }

    public V1ObjectMeta Metadata { get; set; } = new();

    public ShapedSpec Spec { get; set; } = new();

    public sealed record ShapedSpec
    {
        public WidgetShape? Shape { get; set; }
    }

    public enum WidgetShape
    {
        Round,
        Square,
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, UseStringEnumConverter = true)]
[JsonSerializable(typeof(ShapedWidget))]
public sealed partial class ShapedJsonContext : JsonSerializerContext;
