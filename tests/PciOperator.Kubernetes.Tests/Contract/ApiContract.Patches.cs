using System.Net;
using PciOperator.Testing;

namespace PciOperator.Kubernetes.Tests.Contract;

public abstract partial class ApiContract
{
    private Task<Widget> PatchAsync(string name, KubernetesPatch patch, string? subresource = null) =>
        Client.PatchAsync<Widget>(name, Ns, patch, subresource, Ct);

    private string Applied(string name, string rest) =>
        $$"""{"apiVersion":"contract.pcioperator.test/v1","kind":"Widget","metadata":{"name":"{{name}}","namespace":"{{Ns}}"},{{rest}}}""";

    [ContractFact]
    public async Task A_merge_patch_sets_removes_and_replaces()
    {
        await Client.CreateAsync(New("m", size: 1) with
        {
            Spec = new WidgetSpec { Size = 1, Color = "red", Tags = new Dictionary<string, string> { ["a"] = "1", ["b"] = "2" }, Notes = ["x", "y"] },
        }, Ct);
        var patched = await PatchAsync("m", KubernetesPatch.Merge("""{"metadata":{"labels":{"l":"1"}},"spec":{"color":null,"tags":{"a":null,"c":"3"},"notes":["z"]}}"""));
        Assert.Null(patched.Spec.Color);
        Assert.Equal(1, patched.Spec.Size);
        Assert.Equal(["b=2", "c=3"], patched.Spec.Tags!.Select(t => $"{t.Key}={t.Value}").Order());
        Assert.Equal(["z"], patched.Spec.Notes!);
        Assert.Equal("1", patched.Metadata.Labels!["l"]);

        var conflict = await Assert.ThrowsAsync<KubernetesException>(() => PatchAsync("m", KubernetesPatch.Merge("""{"metadata":{"resourceVersion":"1"},"spec":{"size":3}}""")));
        Assert.True(conflict.IsConflict);
        var invalid = await Assert.ThrowsAsync<KubernetesException>(() => PatchAsync("m", KubernetesPatch.Merge("""{"spec":{"size":-1}}""")));
        Assert.True(invalid.IsInvalid);
    }

    [ContractFact]
    public async Task A_json_patch_is_all_or_nothing()
    {
        await Client.CreateAsync(New("j") with { Spec = new WidgetSpec { Size = 1, Notes = ["x", "y"] } }, Ct);
        var patched = await PatchAsync("j", KubernetesPatch.Json("""[{"op":"test","path":"/spec/size","value":1},{"op":"replace","path":"/spec/size","value":2},{"op":"add","path":"/spec/notes/-","value":"z"},{"op":"remove","path":"/spec/notes/0"}]"""));
        Assert.Equal(2, patched.Spec.Size);
        Assert.Equal(["y", "z"], patched.Spec.Notes!);

        var failed = await Assert.ThrowsAsync<KubernetesException>(() =>
            PatchAsync("j", KubernetesPatch.Json("""[{"op":"replace","path":"/spec/size","value":9},{"op":"test","path":"/spec/color","value":"red"}]""")));
        Assert.True(failed.IsInvalid, failed.Message);
        Assert.Equal(2, (await GetAsync("j")).Spec.Size);
    }

    [ContractFact]
    public async Task A_patch_of_the_status_touches_nothing_else()
    {
        await CreateAsync("ps", size: 1);
        var patched = await PatchAsync("ps", KubernetesPatch.Merge("""{"spec":{"size":9},"status":{"phase":"Ready"}}"""), "status");
        Assert.Equal("Ready", patched.Status!.Phase);
        Assert.Equal(1, patched.Spec.Size);
        Assert.Equal(1, patched.Metadata.Generation);
        var spec = await PatchAsync("ps", KubernetesPatch.Merge("""{"spec":{"size":2},"status":{"phase":"Lost"}}"""));
        Assert.Equal("Ready", spec.Status!.Phase);
    }

    [ContractFact]
    public async Task Custom_resources_refuse_strategic_patches()
    {
        await CreateAsync("sp", size: 1);
        var refused = await Assert.ThrowsAsync<KubernetesException>(() => PatchAsync("sp", KubernetesPatch.Strategic("""{"spec":{"size":2}}""")));
        Assert.Equal(HttpStatusCode.UnsupportedMediaType, refused.StatusCode);
    }

    [ContractFact]
    public async Task Apply_makes_changes_and_removes_what_its_manager_owns()
    {
        var made = await PatchAsync("ap", KubernetesPatch.Apply(Applied("ap", """ "spec":{"size":1,"color":"red","tags":{"a":"1"}} """), "one"));
        Assert.Equal((1, "red"), (made.Spec.Size, made.Spec.Color));
        var same = await PatchAsync("ap", KubernetesPatch.Apply(Applied("ap", """ "spec":{"size":1,"color":"red","tags":{"a":"1"}} """), "one"));
        Assert.Equal(made.Metadata.ResourceVersion, same.Metadata.ResourceVersion);

        // Another manager adds its own field; leaving it out of one's own later is no removal.
        await PatchAsync("ap", KubernetesPatch.Apply(Applied("ap", """ "spec":{"tags":{"b":"2"}} """), "two"));
        var less = await PatchAsync("ap", KubernetesPatch.Apply(Applied("ap", """ "spec":{"size":2} """), "one"));
        Assert.Equal(2, less.Spec.Size);
        Assert.Null(less.Spec.Color);
        Assert.Equal(["b=2"], less.Spec.Tags!.Select(t => $"{t.Key}={t.Value}"));

        var typed = await Client.ApplyAsync(New("typed", size: 4), "one", ct: Ct);
        Assert.Equal(4, typed.Spec.Size);
    }

    [ContractFact]
    public async Task Apply_conflicts_over_a_field_unless_forced()
    {
        await PatchAsync("ac", KubernetesPatch.Apply(Applied("ac", """ "spec":{"size":1,"color":"red"} """), "one"));
        var conflict = await Assert.ThrowsAsync<KubernetesException>(() => PatchAsync("ac", KubernetesPatch.Apply(Applied("ac", """ "spec":{"size":2} """), "two")));
        Assert.True(conflict.IsConflict);
        Assert.Contains("conflict with \"one\"", conflict.Message, StringComparison.Ordinal);
        Assert.Contains(conflict.Status.Details!.Causes!, c => c is { Reason: "FieldManagerConflict", Field: ".spec.size" });

        // The same value is shared, not fought over.
        await PatchAsync("ac", KubernetesPatch.Apply(Applied("ac", """ "spec":{"size":1} """), "two"));
        var forced = await PatchAsync("ac", KubernetesPatch.Apply(Applied("ac", """ "spec":{"size":3} """), "two", force: true));
        Assert.Equal(3, forced.Spec.Size);
        var lost = await Assert.ThrowsAsync<KubernetesException>(() => PatchAsync("ac", KubernetesPatch.Apply(Applied("ac", """ "spec":{"size":1,"color":"red"} """), "one")));
        Assert.True(lost.IsConflict);
    }

    [ContractFact]
    public async Task Apply_merges_lists_by_their_keys()
    {
        await PatchAsync("al", KubernetesPatch.Apply(Applied("al", """ "spec":{"parts":[{"name":"a","count":1},{"name":"b","count":2}]} """), "one"));
        var both = await PatchAsync("al", KubernetesPatch.Apply(Applied("al", """ "spec":{"parts":[{"name":"c","count":3}]} """), "two"));
        Assert.Equal(["a 1", "b 2", "c 3"], both.Spec.Parts!.Select(p => $"{p.Name} {p.Count}").Order());
        var less = await PatchAsync("al", KubernetesPatch.Apply(Applied("al", """ "spec":{"parts":[{"name":"b","count":5}]} """), "one"));
        Assert.Equal(["b 5", "c 3"], less.Spec.Parts!.Select(p => $"{p.Name} {p.Count}").Order());
        var conflict = await Assert.ThrowsAsync<KubernetesException>(() => PatchAsync("al", KubernetesPatch.Apply(Applied("al", """ "spec":{"parts":[{"name":"b","count":6}]} """), "two")));
        Assert.Contains(conflict.Status.Details!.Causes!, c => c.Field == ".spec.parts[name=\"b\"].count");
    }

    [ContractFact]
    public async Task Apply_to_the_status_merges_conditions_by_type()
    {
        await CreateAsync("as", size: 1);
        await PatchAsync("as", KubernetesPatch.Apply(Applied("as", """ "status":{"phase":"Ready","conditions":[{"type":"A","status":"True"}]} """), "one"), "status");
        var both = await PatchAsync("as", KubernetesPatch.Apply(Applied("as", """ "status":{"conditions":[{"type":"B","status":"False"}]} """), "two"), "status");
        Assert.Equal(["A True", "B False"], both.Status!.Conditions!.Select(c => $"{c.Type} {c.Status}").Order());
        Assert.Equal("Ready", both.Status.Phase);
        Assert.Equal(1, both.Spec.Size);
    }
}
