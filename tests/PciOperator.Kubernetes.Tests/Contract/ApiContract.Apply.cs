using k8s.Models;

namespace PciOperator.Kubernetes.Tests.Contract;

public abstract partial class ApiContract
{
    private string Applied(string name, string rest) =>
        $$"""{"apiVersion":"contract.pcioperator.test/v1","kind":"Widget","metadata":{"name":"{{name}}","namespace":"{{Ns}}"},{{rest}}}""";

    [Fact]
    public async Task Apply_makes_changes_and_removes_what_its_manager_owns()
    {
        Widget made = await PatchAsync(
            "ap",
            EntityPatch.Apply(Applied("ap", """ "spec":{"size":1,"color":"red","tags":{"a":"1"}} """), "one")
        );
        Assert.Equal((1, "red"), (made.Spec.Size, made.Spec.Color));
        Widget same = await PatchAsync(
            "ap",
            EntityPatch.Apply(Applied("ap", """ "spec":{"size":1,"color":"red","tags":{"a":"1"}} """), "one")
        );
        Assert.Equal(made.Metadata.ResourceVersion, same.Metadata.ResourceVersion);

        // Another manager adds its own field; leaving it out of one's own later is no removal.
        await PatchAsync("ap", EntityPatch.Apply(Applied("ap", """ "spec":{"tags":{"b":"2"}} """), "two"));
        Widget less = await PatchAsync("ap", EntityPatch.Apply(Applied("ap", """ "spec":{"size":2} """), "one"));
        Assert.Equal(2, less.Spec.Size);
        Assert.Null(less.Spec.Color);
        Assert.Equal(["b=2"], less.Spec.Tags!.Select(t => $"{t.Key}={t.Value}"));

        Widget typed = await Client.ApplyAsync(New("typed", size: 4), "one", ct: Ct);
        Assert.Equal(4, typed.Spec.Size);
    }

    [Fact]
    public async Task Apply_conflicts_over_a_field_unless_forced()
    {
        await PatchAsync("ac", EntityPatch.Apply(Applied("ac", """ "spec":{"size":1,"color":"red"} """), "one"));
        ApiException conflict = await Assert.ThrowsAsync<ApiException>(() =>
            PatchAsync("ac", EntityPatch.Apply(Applied("ac", """ "spec":{"size":2} """), "two"))
        );
        Assert.True(conflict.IsConflict);
        Assert.Contains("conflict with \"one\"", conflict.Message, StringComparison.Ordinal);
        Assert.Contains(conflict.Status.Details!.Causes!, c => c is { Reason: "FieldManagerConflict", Field: ".spec.size" });

        // The same value is shared, not fought over.
        await PatchAsync("ac", EntityPatch.Apply(Applied("ac", """ "spec":{"size":1} """), "two"));
        Widget forced = await PatchAsync("ac", EntityPatch.Apply(Applied("ac", """ "spec":{"size":3} """), "two", force: true));
        Assert.Equal(3, forced.Spec.Size);
        ApiException lost = await Assert.ThrowsAsync<ApiException>(() =>
            PatchAsync("ac", EntityPatch.Apply(Applied("ac", """ "spec":{"size":1,"color":"red"} """), "one"))
        );
        Assert.True(lost.IsConflict);
    }

    [Fact]
    public async Task Apply_merges_lists_by_their_keys()
    {
        await PatchAsync(
            "al",
            EntityPatch.Apply(Applied("al", """ "spec":{"parts":[{"name":"a","count":1},{"name":"b","count":2}]} """), "one")
        );
        Widget both = await PatchAsync("al", EntityPatch.Apply(Applied("al", """ "spec":{"parts":[{"name":"c","count":3}]} """), "two"));
        Assert.Equal(["a 1", "b 2", "c 3"], both.Spec.Parts!.Select(p => $"{p.Name} {p.Count}").Order());
        Widget less = await PatchAsync("al", EntityPatch.Apply(Applied("al", """ "spec":{"parts":[{"name":"b","count":5}]} """), "one"));
        Assert.Equal(["b 5", "c 3"], less.Spec.Parts!.Select(p => $"{p.Name} {p.Count}").Order());
        ApiException conflict = await Assert.ThrowsAsync<ApiException>(() =>
            PatchAsync("al", EntityPatch.Apply(Applied("al", """ "spec":{"parts":[{"name":"b","count":6}]} """), "two"))
        );
        Assert.Contains(conflict.Status.Details!.Causes!, c => c.Field == ".spec.parts[name=\"b\"].count");
    }

    [Fact]
    public async Task Apply_to_the_status_merges_conditions_by_type()
    {
        await CreateAsync("as", size: 1);
        await PatchAsync(
            "as",
            EntityPatch.Apply(Applied("as", """ "status":{"phase":"Ready","conditions":[{"type":"A","status":"True"}]} """), "one"),
            "status"
        );
        Widget both = await PatchAsync(
            "as",
            EntityPatch.Apply(Applied("as", """ "status":{"conditions":[{"type":"B","status":"False"}]} """), "two"),
            "status"
        );
        Assert.Equal(["A True", "B False"], both.Status!.Conditions!.Select(c => $"{c.Type} {c.Status}").Order());
        Assert.Equal("Ready", both.Status.Phase);
        Assert.Equal(1, both.Spec.Size);
    }

    [Fact]
    public async Task Apply_puts_a_condition_beside_those_of_others_on_a_node()
    {
        string name = $"node-{Ns}";
        V1Node node = await Client.CreateAsync(new V1Node { Metadata = new V1ObjectMeta { Name = name } }, Ct);
        try
        {
            await Client.UpdateStatusAsync(
                node with
                {
                    Status = new V1NodeStatus { Conditions = [new V1NodeCondition { Type = "Ready", Status = "True" }] },
                },
                Ct
            );
            V1Node applied = await Client.PatchAsync<V1Node>(
                name,
                null,
                EntityPatch.Apply(
                    $$$"""{"apiVersion":"v1","kind":"Node","metadata":{"name":"{{{name}}}"},"status":{"conditions":[{"type":"PciPassthroughReady","status":"True","reason":"Ready","message":"1 of 1"}]}}""",
                    "contract-agent"
                ),
                "status",
                Ct
            );
            Assert.Equal(["PciPassthroughReady", "Ready"], applied.Status!.Conditions!.Select(c => c.Type).Order());
        }
        finally
        {
            await Client.DeleteAsync<V1Node>(name);
        }
    }
}
