using System.Net;
using k8s.Models;

namespace PciOperator.Kubernetes.Tests.Contract;

public abstract partial class ApiContract
{
    [Fact]
    public async Task An_object_is_made_read_changed_and_deleted()
    {
        Widget made = await CreateAsync("a", size: 1);
        Assert.NotNull(made.Metadata.Uid);
        Assert.NotNull(made.Metadata.CreationTimestamp);
        Assert.Equal(1, made.Metadata.Generation);
        Assert.Equal("round", made.Spec.Shape);
        Assert.Equal("contract.pcioperator.test/v1", made.ApiVersion);
        Assert.Equal("Widget", made.Kind);

        Widget read = await GetAsync("a");
        Assert.Equal(made.Metadata.ResourceVersion, read.Metadata.ResourceVersion);
        Assert.Equal(made.Metadata.Uid, read.Metadata.Uid);

        Widget changed = await Client.UpdateAsync(read with { Spec = read.Spec with { Size = 2 } }, Ct);
        Assert.Equal(2, changed.Spec.Size);
        Assert.Equal(2, changed.Metadata.Generation);
        Assert.True(ulong.Parse(changed.Metadata.ResourceVersion!) > ulong.Parse(made.Metadata.ResourceVersion!));

        Assert.True(await Client.DeleteAsync<Widget>("a", Ns, ct: Ct));
        Assert.Null(await Client.GetAsync<Widget>("a", Ns, Ct));
        Assert.False(await Client.DeleteAsync<Widget>("a", Ns, ct: Ct));
    }

    [Fact]
    public async Task A_write_that_changes_nothing_keeps_the_version()
    {
        Widget made = await CreateAsync("same", size: 1);
        Widget again = await Client.UpdateAsync(made, Ct);
        Assert.Equal(made.Metadata.ResourceVersion, again.Metadata.ResourceVersion);
        Widget patched = await Client.PatchAsync<Widget>("same", Ns, EntityPatch.Merge("""{"spec":{"size":1}}"""), ct: Ct);
        Assert.Equal(made.Metadata.ResourceVersion, patched.Metadata.ResourceVersion);
    }

    [Fact]
    public async Task A_name_can_be_left_to_the_server()
    {
        Widget widget = New("x") with
        {
            Metadata = new V1ObjectMeta { GenerateName = "gen-", NamespaceProperty = Ns },
        };
        Widget made = await Client.CreateAsync(widget, Ct);
        Assert.StartsWith("gen-", made.Metadata.Name, StringComparison.Ordinal);
        Assert.True(made.Metadata.Name!.Length > 4);
    }

    [Fact]
    public async Task Errors_can_be_told_apart()
    {
        Widget made = await CreateAsync("e", size: 1);
        ApiException exists = await Assert.ThrowsAsync<ApiException>(() => CreateAsync("e"));
        Assert.True(exists.IsAlreadyExists);
        Assert.False(exists.IsConflict);
        Assert.Equal(HttpStatusCode.Conflict, exists.StatusCode);
        Assert.Contains("\"e\" already exists", exists.Message, StringComparison.Ordinal);

        await Client.UpdateAsync(made with { Spec = new WidgetSpec { Size = 2 } }, Ct);
        ApiException conflict = await Assert.ThrowsAsync<ApiException>(() =>
            Client.UpdateAsync(made with { Spec = new WidgetSpec { Size = 3 } }, Ct)
        );
        Assert.True(conflict.IsConflict);
        Assert.Equal("Conflict", conflict.Status.Reason);
        Assert.Equal(2, (await GetAsync("e")).Spec.Size);

        ApiException invalid = await Assert.ThrowsAsync<ApiException>(() => CreateAsync("bad", size: 101));
        Assert.True(invalid.IsInvalid);
        Assert.Equal("Invalid", invalid.Status.Reason);
        Assert.Contains(invalid.Status.Details!.Causes!, c => c.Field == "spec.size");
        Assert.Contains("spec.size", invalid.Message, StringComparison.Ordinal);
        ApiException unknown = await Assert.ThrowsAsync<ApiException>(() => CreateAsync("bad", color: "grey"));
        Assert.True(unknown.IsInvalid);
        Assert.Contains("spec.color", unknown.Message, StringComparison.Ordinal);

        ApiException missing = await Assert.ThrowsAsync<ApiException>(() =>
            Client.PatchAsync<Widget>("none", Ns, EntityPatch.Merge("""{"spec":{"size":1}}"""), ct: Ct)
        );
        Assert.True(missing.IsNotFound);
        ApiException updateMissing = await Assert.ThrowsAsync<ApiException>(() =>
            Client.UpdateAsync(made with { Metadata = made.Metadata with { Name = "none" } }, Ct)
        );
        Assert.True(updateMissing.IsNotFound || updateMissing.IsConflict, updateMissing.Message);
        ApiException noKind = await Assert.ThrowsAsync<ApiException>(() => Client.ListAsync<Gadget>(Ns, ct: Ct));
        Assert.True(noKind.IsNotFound);
    }

    [Fact]
    public async Task Status_and_spec_are_written_apart()
    {
        Widget made = await Client.CreateAsync(New("s", size: 1) with { Status = new WidgetStatus { Phase = "Early" } }, Ct);
        Assert.Null(made.Status?.Phase);

        var condition = new V1Condition
        {
            Type = "Ready",
            Status = "True",
            Reason = "Ok",
            Message = "Well.",
            LastTransitionTime = DateTime.UnixEpoch,
        };
        Widget status = await Client.UpdateStatusAsync(
            made with
            {
                Spec = new WidgetSpec { Size = 99 },
                Status = new WidgetStatus { Phase = "Ready", Conditions = [condition] },
            },
            Ct
        );
        Assert.Equal("Ready", status.Status!.Phase);
        Assert.Equal(condition, status.Status.Conditions!.Single());
        Assert.Equal(1, status.Spec.Size);
        Assert.Equal(1, status.Metadata.Generation);

        Widget spec = await Client.UpdateAsync(
            status with
            {
                Spec = new WidgetSpec { Size = 2 },
                Status = null,
            },
            Ct
        );
        Assert.Equal("Ready", spec.Status!.Phase);
        Assert.Equal(2, spec.Metadata.Generation);

        ApiException stale = await Assert.ThrowsAsync<ApiException>(() =>
            Client.UpdateStatusAsync(status with { Status = new WidgetStatus { Phase = "Stale" } }, Ct)
        );
        Assert.True(stale.IsConflict);
    }

    [Fact]
    public async Task An_object_with_finalizers_stays_until_they_are_gone()
    {
        Widget made = await Client.CreateAsync(
            New("f") with
            {
                Metadata = New("f").Metadata with { Finalizers = ["pcioperator.test/one", "pcioperator.test/two"] },
            },
            Ct
        );
        Assert.True(await Client.DeleteAsync<Widget>("f", Ns, ct: Ct));
        Widget dying = await GetAsync("f");
        Assert.NotNull(dying.Metadata.DeletionTimestamp);
        Assert.Equal(made.Metadata.Uid, dying.Metadata.Uid);

        // Deleting it again is no error; adding a finalizer now is one.
        Assert.True(await Client.DeleteAsync<Widget>("f", Ns, ct: Ct));
        ApiException late = await Assert.ThrowsAsync<ApiException>(() =>
            Client.UpdateAsync(
                dying with
                {
                    Metadata = dying.Metadata with
                    {
                        Finalizers = ["pcioperator.test/one", "pcioperator.test/two", "pcioperator.test/three"],
                    },
                },
                Ct
            )
        );
        Assert.True(late.IsInvalid || late.IsForbidden, late.Message);

        dying = await GetAsync("f");
        dying = await Client.UpdateAsync(dying with { Metadata = dying.Metadata with { Finalizers = ["pcioperator.test/two"] } }, Ct);
        Assert.Equal(["pcioperator.test/two"], (await GetAsync("f")).Metadata.Finalizers!);
        await Client.PatchAsync<Widget>("f", Ns, EntityPatch.Merge("""{"metadata":{"finalizers":null}}"""), ct: Ct);
        Assert.Null(await Client.GetAsync<Widget>("f", Ns, Ct));
    }

    [Fact]
    public async Task A_deletion_can_be_tied_to_uid_and_version()
    {
        Widget made = await CreateAsync("p");
        ApiException otherUid = await Assert.ThrowsAsync<ApiException>(() =>
            Client.DeleteAsync<Widget>("p", Ns, new DeleteOptions { Uid = "00000000-0000-0000-0000-000000000000" }, Ct)
        );
        Assert.True(otherUid.IsConflict);
        ApiException otherVersion = await Assert.ThrowsAsync<ApiException>(() =>
            Client.DeleteAsync<Widget>("p", Ns, new DeleteOptions { ResourceVersion = "1" }, Ct)
        );
        Assert.True(otherVersion.IsConflict);
        Assert.True(
            await Client.DeleteAsync<Widget>(
                "p",
                Ns,
                new DeleteOptions { Uid = made.Metadata.Uid, ResourceVersion = made.Metadata.ResourceVersion },
                Ct
            )
        );
        Assert.Null(await Client.GetAsync<Widget>("p", Ns, Ct));
    }

    [Fact]
    public async Task A_dry_run_answers_but_stores_nothing()
    {
        await CreateAsync("dry", size: 1);
        Widget patched = await Client.PatchAsync<Widget>(
            "dry",
            Ns,
            EntityPatch.Merge("""{"spec":{"size":7}}""") with
            {
                DryRun = true,
            },
            ct: Ct
        );
        Assert.Equal(7, patched.Spec.Size);
        Assert.Equal(1, (await GetAsync("dry")).Spec.Size);
        Assert.True(await Client.DeleteAsync<Widget>("dry", Ns, new DeleteOptions { DryRun = true }, Ct));
        Assert.Null((await GetAsync("dry")).Metadata.DeletionTimestamp);
    }

    [Fact]
    public async Task Fields_that_the_schema_does_not_know_are_dropped()
    {
        string path = $"/apis/contract.pcioperator.test/v1/namespaces/{Ns}/widgets";
        string body =
            $$$"""{"apiVersion":"contract.pcioperator.test/v1","kind":"Widget","metadata":{"name":"pruned","namespace":"{{{Ns}}}"},"spec":{"size":1,"unknown":true}}""";
        using System.Text.Json.JsonDocument made = await Client.SendRawAsync(
            HttpMethod.Post,
            path,
            System.Text.Encoding.UTF8.GetBytes(body),
            ct: Ct
        );
        Assert.False(made.RootElement.GetProperty("spec").TryGetProperty("unknown", out _));
        ApiException strict = await Assert.ThrowsAsync<ApiException>(() =>
            Client.SendRawAsync(
                HttpMethod.Post,
                path + "?fieldValidation=Strict",
                System.Text.Encoding.UTF8.GetBytes(body.Replace("pruned", "strict", StringComparison.Ordinal)),
                ct: Ct
            )
        );
        Assert.Equal(HttpStatusCode.BadRequest, strict.StatusCode);
        Assert.Contains("unknown field \"spec.unknown\"", strict.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Discovery_names_groups_and_resources()
    {
        using System.Text.Json.JsonDocument version = await Client.GetRawAsync("/version", Ct);
        Assert.StartsWith("v1.", version.RootElement.GetProperty("gitVersion").GetString(), StringComparison.Ordinal);
        using System.Text.Json.JsonDocument groups = await Client.GetRawAsync("/apis", Ct);
        Assert.Contains(
            groups.RootElement.GetProperty("groups").EnumerateArray(),
            g => g.GetProperty("name").GetString() == "contract.pcioperator.test"
        );
        using System.Text.Json.JsonDocument resources = await Client.GetRawAsync("/apis/contract.pcioperator.test/v1", Ct);
        var all = resources.RootElement.GetProperty("resources").EnumerateArray().ToDictionary(r => r.GetProperty("name").GetString()!);
        Assert.True(all["widgets"].GetProperty("namespaced").GetBoolean());
        Assert.Equal("Widget", all["widgets"].GetProperty("kind").GetString());
        Assert.Contains(all["widgets"].GetProperty("shortNames").EnumerateArray(), s => s.GetString() == "wi");
        Assert.Contains(all["widgets"].GetProperty("verbs").EnumerateArray(), s => s.GetString() == "watch");
        Assert.Contains("widgets/status", all.Keys);
        using System.Text.Json.JsonDocument core = await Client.GetRawAsync("/api/v1", Ct);
        Assert.Contains(core.RootElement.GetProperty("resources").EnumerateArray(), r => r.GetProperty("name").GetString() == "nodes");
    }

    [Fact]
    public async Task Cluster_scoped_and_built_in_objects_work_the_same_way()
    {
        string name = $"node-{Ns}";
        V1Node node = await Client.CreateAsync(
            new V1Node
            {
                Metadata = new V1ObjectMeta
                {
                    Name = name,
                    Labels = new Dictionary<string, string> { ["of"] = Ns },
                },
                Spec = new V1NodeSpec
                {
                    Taints =
                    [
                        new V1Taint
                        {
                            Key = "t",
                            Value = "v",
                            Effect = "NoSchedule",
                        },
                    ],
                },
            },
            Ct
        );
        try
        {
            Assert.Null(node.Metadata.NamespaceProperty);
            Assert.Equal("t", node.Spec!.Taints!.Single().Key);
            node = await Client.UpdateStatusAsync(
                node with
                {
                    Status = new V1NodeStatus { Conditions = [new V1NodeCondition { Type = "Ready", Status = "True" }] },
                },
                Ct
            );
            Assert.Equal("Ready", node.Status!.Conditions!.Single().Type);

            EntityList<k8s.Models.V1Node> list = await Client.ListAsync<V1Node>(
                options: new ListOptions { LabelSelector = $"of={Ns}" },
                ct: Ct
            );
            Assert.Equal([name], list.Items.Select(n => n.Metadata.Name));
            Assert.Equal(("v1", "Node"), (list.Items[0].ApiVersion, list.Items[0].Kind));
        }
        finally
        {
            await Client.DeleteAsync<V1Node>(name);
        }
    }
}
