using System.Net;
using System.Text;
using System.Text.Json;
using k8s;
using k8s.Models;
using PciOperator.Api;
using PciOperator.Kubernetes;

namespace PciOperator.Tests;

/// <summary>Tests that measure what this process does: no other test runs meanwhile.</summary>
[CollectionDefinition(Name, DisableParallelization = true)]
public sealed class Alone
{
    public const string Name = "alone";
}

/// <summary>What a tenant puts into a claim's metadata is not kept, and not lost either.</summary>
[Collection(Alone.Name)]
public sealed class LeanClaimTests
{
    private const int Claims = 100;

    [Fact]
    public async Task A_hundred_claims_of_1_4_MB_cost_under_32_MB()
    {
        byte[] claim = Claim();
        Assert.InRange(claim.Length, 1_400_000, 1_500_000);
        using var client = new EntityClient(
            new KubernetesClientConfiguration { Host = "http://localhost" },
            PciOperatorJsonContext.Default,
            wrap: _ => new ListOf(claim)
        );
        // All that is allocated for them, kept or not: so at no moment they cost more.
        long before = GC.GetTotalAllocatedBytes(precise: true);
        EntityList<PassthroughClaim> list = await client.ListAsync<PassthroughClaim>();
        long allocated = GC.GetTotalAllocatedBytes(precise: true) - before;
        Assert.Equal(Claims, list.Items.Count);
        Assert.InRange(allocated, 0, 32 * 1024 * 1024);
        V1ObjectMeta meta = list.Items[0].Metadata;
        Assert.Equal(("c", "ns", "u", "7", 3L), (meta.Name, meta.NamespaceProperty, meta.Uid, meta.ResourceVersion, meta.Generation));
        Assert.Equal([PciOperatorApi.ClaimFinalizer], meta.Finalizers);
        LeanObjectMeta lean = Assert.IsType<LeanObjectMeta>(meta);
        Assert.Equal((10_002, 10_000), (lean.ForeignFinalizers, lean.ForeignFinalizersBefore));
        Assert.Null(meta.Labels);
        Assert.Null(meta.Annotations);
        Assert.Null(meta.OwnerReferences);
        Assert.NotNull(meta.CreationTimestamp);
        Assert.Equal("a1", list.Items[0].Spec.Requests[0].Alias);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(100)]
    [InlineData(16_384)]
    public async Task A_claim_whose_bytes_come_bit_by_bit_is_read(int atOnce)
    {
        JsonSerializerOptions options = EntityJson.OptionsWith(PciOperatorJsonContext.Default);
        options = new JsonSerializerOptions(options) { DefaultBufferSize = 16 };
        string small =
            """{"metadata":{"labels":{"a":{"b":[1,2,{"c":null}]}},"name":"c","finalizers":[["x"],"pcioperator.io/release",{"y":1},"z"],"creationTimestamp":{"no":["time"]},"managedFields":[{"fieldsV1":{"f:a":{"f:b":{}}}}],"generation":3},"spec":{"requests":[{"name":"r","alias":"a1"}]},"status":{"conditions":[{"type":"Ready","status":"True","lastTransitionTime":["no","time"]}]}}""";
        foreach (byte[] json in new[] { Encoding.UTF8.GetBytes(small), Claim() })
        {
            await using var stream = new Dribble(json, atOnce);
            PassthroughClaim claim = (
                await JsonSerializer.DeserializeAsync(
                    stream,
                    (System.Text.Json.Serialization.Metadata.JsonTypeInfo<PassthroughClaim>)options.GetTypeInfo(typeof(PassthroughClaim))
                )
            )!;
            Assert.Equal(("c", 3L), (claim.Metadata.Name, claim.Metadata.Generation));
            Assert.Equal([PciOperatorApi.ClaimFinalizer], claim.Metadata.Finalizers);
            Assert.Equal("a1", claim.Spec.Requests[0].Alias);
        }
    }

    [Fact]
    public void Of_owners_the_controlling_one_is_kept_when_it_can_mean_something()
    {
        static IList<V1OwnerReference>? OwnersOf(string owners) =>
            JsonSerializer
                .Deserialize(
                    $$$"""{"metadata":{"name":"c","ownerReferences":{{{owners}}}},"spec":{"requests":[{"name":"r","alias":"a1"}]}}""",
                    EntityJson.OptionsWith(PciOperatorJsonContext.Default).TypeInfo<PassthroughClaim>()
                )!
                .Metadata.OwnerReferences;

        const string owner =
            """{"apiVersion":"resource.k8s.io/v1","kind":"ResourceClaim","name":"r","uid":"u1","controller":true,"x":[{"controller":false}]}""";
        V1OwnerReference kept = Assert.Single(
            OwnersOf($$"""[{"kind":"K","name":"n","uid":"u"},7,{{owner}},{"controller":false,"kind":"K","name":"n","uid":"u"}]""")!
        );
        Assert.Equal(
            ("resource.k8s.io/v1", "ResourceClaim", "r", "u1", true),
            (kept.ApiVersion, kept.Kind, kept.Name, kept.Uid, kept.Controller)
        );
        Assert.Null(OwnersOf("null"));
        Assert.Null(OwnersOf("""{"controller":true}"""));
        Assert.Null(OwnersOf("""[{"controller":true,"kind":{"a":1},"name":"n","uid":"u"}]"""));
        Assert.Null(OwnersOf($$"""[{"controller":true,"kind":"K","name":"{{new string('n', 300)}}","uid":"u"}]"""));
    }

    [Fact]
    public void A_claim_is_written_whole()
    {
        var claim = new PassthroughClaim
        {
            Metadata = new V1ObjectMeta
            {
                Name = "c",
                Labels = new Dictionary<string, string> { ["a"] = "b" },
                Finalizers = ["x/y"],
            },
        };
        string json = JsonSerializer.Serialize(claim, EntityJson.OptionsWith(PciOperatorJsonContext.Default).TypeInfo<PassthroughClaim>());
        Assert.Contains("\"labels\":{\"a\":\"b\"}", json, StringComparison.Ordinal);
        Assert.Contains("\"finalizers\":[\"x/y\"]", json, StringComparison.Ordinal);
        Assert.DoesNotContain("foreign", json, StringComparison.OrdinalIgnoreCase);
    }

    private static byte[] Claim()
    {
        string Many(int count, Func<int, string> each) => string.Join(",", Enumerable.Range(0, count).Select(each));
        return Encoding.UTF8.GetBytes(
            $$$"""
            {"metadata":{"name":"c","namespace":"ns","uid":"u","resourceVersion":"7","generation":3,"creationTimestamp":"2026-01-01T00:00:00Z",
             "labels":{ {{{Many(5000, i => $"\"label-{i}\":\"{new string('v', 40)}\"")}}} },
             "annotations":{"a":"{{{new string('x', 250_000)}}}"},
             "finalizers":[{{{Many(10_000, i => $"\"tenant.example/f{i}\"")}}},"pcioperator.io/release","x/a","x/b"],
             "ownerReferences":[{{{Many(3000, i => $"{{\"kind\":\"K\",\"name\":\"n{i}\",\"uid\":\"u{i}\"}}")}}}],
             "managedFields":[{"fieldsV1":{"f:{{{new string('m', 520_000)}}}":{} } }]},
             "spec":{"requests":[{"name":"r","alias":"a1"}]}}
            """
        );
    }

    /// <summary>Answers with a list that is made while it is read.</summary>
    private sealed class ListOf(byte[] item) : HttpMessageHandler
    {
        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken) =>
            Task.FromResult(
                new HttpResponseMessage(HttpStatusCode.OK) { Content = new StreamContent(new Repeated(item)), RequestMessage = request }
            );
    }

    private sealed class Repeated(byte[] item) : MemoryStream
    {
        private readonly Queue<byte[]> _parts = new([
            .. Enumerable
                .Range(0, Claims)
                .SelectMany(i =>
                    new[] { i == 0 ? "{\"metadata\":{\"resourceVersion\":\"9\"},\"items\":["u8.ToArray() : ","u8.ToArray(), item }
                ),
            "]}"u8.ToArray(),
        ]);
        private int _at;

        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            if (!_parts.TryPeek(out byte[]? part))
                return ValueTask.FromResult(0);
            int count = Math.Min(buffer.Length, part.Length - _at);
            part.AsMemory(_at, count).CopyTo(buffer);
            _at += count;
            if (_at == part.Length)
            {
                _parts.Dequeue();
                _at = 0;
            }

            return ValueTask.FromResult(count);
        }
    }

    /// <summary>A connection that gives so many bytes at once.</summary>
    private sealed class Dribble(byte[] content, int atOnce) : MemoryStream(content)
    {
        public override int Read(Span<byte> buffer) => base.Read(buffer[..Math.Min(atOnce, buffer.Length)]);

        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) =>
            new(Read(buffer.Span));
    }
}
