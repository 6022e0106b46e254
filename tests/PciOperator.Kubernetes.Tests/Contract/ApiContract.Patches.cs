using System.Net;

namespace PciOperator.Kubernetes.Tests.Contract;

public abstract partial class ApiContract
{
    private Task<Widget> PatchAsync(string name, EntityPatch patch, string? subresource = null) =>
        Client.PatchAsync<Widget>(name, Ns, patch, subresource, Ct);

    [Fact]
    public async Task A_merge_patch_sets_removes_and_replaces()
    {
        await Client.CreateAsync(
            New("m", size: 1) with
            {
                Spec = new WidgetSpec
                {
                    Size = 1,
                    Color = "red",
                    Tags = new Dictionary<string, string> { ["a"] = "1", ["b"] = "2" },
                    Notes = ["x", "y"],
                },
            },
            Ct
        );
        Widget patched = await PatchAsync(
            "m",
            EntityPatch.Merge("""{"metadata":{"labels":{"l":"1"}},"spec":{"color":null,"tags":{"a":null,"c":"3"},"notes":["z"]}}""")
        );
        Assert.Null(patched.Spec.Color);
        Assert.Equal(1, patched.Spec.Size);
        Assert.Equal(["b=2", "c=3"], patched.Spec.Tags!.Select(t => $"{t.Key}={t.Value}").Order());
        Assert.Equal(["z"], patched.Spec.Notes!);
        Assert.Equal("1", patched.Metadata.Labels!["l"]);

        ApiException conflict = await Assert.ThrowsAsync<ApiException>(() =>
            PatchAsync("m", EntityPatch.Merge("""{"metadata":{"resourceVersion":"1"},"spec":{"size":3}}"""))
        );
        Assert.True(conflict.IsConflict);
        ApiException invalid = await Assert.ThrowsAsync<ApiException>(() => PatchAsync("m", EntityPatch.Merge("""{"spec":{"size":-1}}""")));
        Assert.True(invalid.IsInvalid);
    }

    [Fact]
    public async Task A_json_patch_is_all_or_nothing()
    {
        await Client.CreateAsync(
            New("j") with
            {
                Spec = new WidgetSpec { Size = 1, Notes = ["x", "y"] },
            },
            Ct
        );
        Widget patched = await PatchAsync(
            "j",
            EntityPatch.Json(
                """[{"op":"test","path":"/spec/size","value":1},{"op":"replace","path":"/spec/size","value":2},{"op":"add","path":"/spec/notes/-","value":"z"},{"op":"remove","path":"/spec/notes/0"}]"""
            )
        );
        Assert.Equal(2, patched.Spec.Size);
        Assert.Equal(["y", "z"], patched.Spec.Notes!);

        ApiException failed = await Assert.ThrowsAsync<ApiException>(() =>
            PatchAsync(
                "j",
                EntityPatch.Json("""[{"op":"replace","path":"/spec/size","value":9},{"op":"test","path":"/spec/color","value":"red"}]""")
            )
        );
        Assert.True(failed.IsInvalid, failed.Message);
        Assert.Equal(2, (await GetAsync("j")).Spec.Size);
    }

    [Fact]
    public async Task A_patch_of_the_status_touches_nothing_else()
    {
        await CreateAsync("ps", size: 1);
        Widget patched = await PatchAsync("ps", EntityPatch.Merge("""{"spec":{"size":9},"status":{"phase":"Ready"}}"""), "status");
        Assert.Equal("Ready", patched.Status!.Phase);
        Assert.Equal(1, patched.Spec.Size);
        Assert.Equal(1, patched.Metadata.Generation);
        Widget spec = await PatchAsync("ps", EntityPatch.Merge("""{"spec":{"size":2},"status":{"phase":"Lost"}}"""));
        Assert.Equal("Ready", spec.Status!.Phase);
    }

    [Fact]
    public async Task Custom_resources_refuse_strategic_patches()
    {
        await CreateAsync("sp", size: 1);
        ApiException refused = await Assert.ThrowsAsync<ApiException>(() =>
            PatchAsync("sp", EntityPatch.Strategic("""{"spec":{"size":2}}"""))
        );
        Assert.Equal(HttpStatusCode.UnsupportedMediaType, refused.StatusCode);
    }
}
