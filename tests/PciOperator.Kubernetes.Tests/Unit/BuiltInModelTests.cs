using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using k8s.Models;

namespace PciOperator.Kubernetes.Tests.Unit;

/// <summary>What is read of the library's models, and what it costs.</summary>
public sealed class BuiltInModelTests
{
    /// <summary>A Node as a kubelet and its admirers write it.</summary>
    private static string Node()
    {
        string Many(int count, Func<int, string> each) => string.Join(",", Enumerable.Range(0, count).Select(each));
        string labels = Many(25, i => $"\"example.com/label-{i}\":\"value-{i}\"");
        string conditions = Many(
            5,
            i =>
                $$"""{"type":"Condition{{i}}","status":"False","lastHeartbeatTime":"2026-01-01T00:00:00Z","lastTransitionTime":"2026-01-01T00:00:00Z","reason":"KubeletHasNoTrouble","message":"kubelet has no trouble of kind {{i}}"}"""
        );
        string digest = new string('0', 64);
        string images = Many(
            50,
            i =>
                $$"""{"names":["registry.example.com/team/project/image-{{i}}@sha256:{{digest}}","registry.example.com/team/project/image-{{i}}:v1.{{i}}"],"sizeBytes":1{{i}}000000}"""
        );
        string resources =
            """{"cpu":"64","memory":"256Gi","ephemeral-storage":"100Gi","hugepages-1Gi":"0","hugepages-2Mi":"0","pods":"110","example.com/device":"8"}""";
        string fields = Many(25, i => $"\"f:example.com/label-{i}\":{{}}");
        string managed = Many(
            3,
            i =>
                $$$"""{"manager":"m{{{i}}}","operation":"Update","apiVersion":"v1","time":"2026-01-01T00:00:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:labels":{ {{{fields}}} } } } }"""
        );
        return $$$$"""
            {"apiVersion":"v1","kind":"Node","metadata":{"name":"n","uid":"u","resourceVersion":"5","creationTimestamp":"2026-01-01T00:00:00Z","labels":{ {{{{labels}}}} },
             "managedFields":[{{{{managed}}}}]},
             "spec":{"podCIDR":"10.0.0.0/24","podCIDRs":["10.0.0.0/24"],"providerID":"x://1","unschedulable":true,"taints":[{"key":"k","value":"v","effect":"NoSchedule","timeAdded":"2026-01-01T00:00:00Z"}]},
             "status":{"capacity":{{{{resources}}}},"allocatable":{{{{resources}}}},"addresses":[{"type":"InternalIP","address":"10.0.0.1"},{"type":"Hostname","address":"n"}],
              "conditions":[{{{{conditions}}}}],"images":[{{{{images}}}}],"volumesInUse":["a","b"],"volumesAttached":[{"name":"a","devicePath":""}],"daemonEndpoints":{"kubeletEndpoint":{"Port":10250}},
              "nodeInfo":{"machineID":"m","systemUUID":"s","bootID":"b","kernelVersion":"6.1","osImage":"o","containerRuntimeVersion":"c","kubeletVersion":"v1.36.0","kubeProxyVersion":"","operatingSystem":"linux","architecture":"amd64"}}}
            """;
    }

    [Fact]
    public void A_Node_keeps_what_is_looked_at_and_nothing_else()
    {
        V1Node node = JsonSerializer.Deserialize(Node(), EntityJson.Options.TypeInfo<V1Node>())!;
        Assert.Equal(
            ("n", "u", "5", 25),
            (node.Metadata.Name, node.Metadata.Uid, node.Metadata.ResourceVersion, node.Metadata.Labels.Count)
        );
        Assert.Null(node.Metadata.ManagedFields);
        Assert.True(node.Spec.Unschedulable);
        Assert.Equal(
            new V1Taint
            {
                Key = "k",
                Value = "v",
                Effect = "NoSchedule",
                TimeAdded = new DateTime(2026, 1, 1, 0, 0, 0, DateTimeKind.Utc),
            },
            Assert.Single(node.Spec.Taints)
        );
        Assert.Equal(new V1NodeSpec { Unschedulable = true, Taints = node.Spec.Taints }, node.Spec);
        Assert.Equal(5, node.Status.Conditions.Count);
        Assert.Equal(new V1NodeStatus { Conditions = node.Status.Conditions, NodeInfo = node.Status.NodeInfo }, node.Status);
        Assert.Equal(new V1NodeSystemInfo { BootID = "b", KernelVersion = "6.1" }, node.Status.NodeInfo);
    }

    [Fact]
    public void A_Pod_keeps_what_is_looked_at_and_nothing_else()
    {
        const string json = """
            {"metadata":{"name":"p","managedFields":[{"manager":"m"}]},"spec":{"nodeName":"n","containers":[{"name":"c","resources":{"limits":{"cpu":"none at all"}}}],"tolerations":[{"key":"k"}]},
             "status":{"phase":"Running","podIP":"10.0.0.2","conditions":[{"type":"Ready","status":"True","lastProbeTime":"yesterday"}],"containerStatuses":[{"name":"c"}]}}
            """;
        V1Pod pod = JsonSerializer.Deserialize(json, EntityJson.Options.TypeInfo<V1Pod>())!;
        Assert.Equal(new V1PodSpec { NodeName = "n" }, pod.Spec);
        Assert.Equal(new V1PodStatus { Phase = "Running", Conditions = pod.Status.Conditions }, pod.Status);
        Assert.Equal(new V1PodCondition { Type = "Ready", Status = "True" }, Assert.Single(pod.Status.Conditions));
    }

    [Fact]
    public void A_Node_without_what_nobody_looks_at_costs_a_fifth()
    {
        byte[] json = Encoding.UTF8.GetBytes(Node());
        // The same models and converters, but for what is left out.
        var whole = new JsonSerializerOptions { TypeInfoResolver = BuiltInJsonContext.Default };
        whole.Converters.Add(TimeConverter.Whole);
        whole.Converters.Add(new RequiredTimeConverter());
        (long lean, long all) = (
            Allocated(json, EntityJson.Options.TypeInfo<V1Node>()),
            Allocated(json, (JsonTypeInfo<V1Node>)whole.GetTypeInfo(typeof(V1Node)))
        );
        Assert.True(all > 5 * lean, $"A lean Node costs {lean} bytes, a whole one {all}.");
    }

    private static long Allocated(byte[] json, JsonTypeInfo<V1Node> type)
    {
        const int times = 20;
        JsonSerializer.Deserialize(json, type);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < times; i++)
            JsonSerializer.Deserialize(json, type);
        return (GC.GetAllocatedBytesForCurrentThread() - before) / times;
    }

    [Fact]
    public void What_has_no_fixed_shape_can_be_read_and_written_again()
    {
        const string json = """{"manager":"m","fieldsV1":{"f:metadata":{"f:labels":{}}}}""";
        JsonTypeInfo<V1ManagedFieldsEntry> type = EntityJson.Options.TypeInfo<V1ManagedFieldsEntry>();
        Assert.Equal(json.Length, JsonSerializer.Serialize(JsonSerializer.Deserialize(json, type)!, type).Length);
    }

    [Fact]
    public void A_MicroTime_has_six_digits_and_a_Time_none_whatever_the_moment()
    {
        var whole = new DateTime(2026, 3, 4, 5, 6, 7, DateTimeKind.Utc);
        var made = new Eventsv1Event
        {
            Metadata = new V1ObjectMeta { CreationTimestamp = whole },
            EventTime = whole,
            Series = new Eventsv1EventSeries { Count = 2, LastObservedTime = whole.AddTicks(10) },
        };
        string json = JsonSerializer.Serialize(made, EntityJson.Options.TypeInfo<Eventsv1Event>());
        Assert.Contains("\"creationTimestamp\":\"2026-03-04T05:06:07Z\"", json, StringComparison.Ordinal);
        Assert.Contains("\"eventTime\":\"2026-03-04T05:06:07.000000Z\"", json, StringComparison.Ordinal);
        Assert.Contains("\"lastObservedTime\":\"2026-03-04T05:06:07.000001Z\"", json, StringComparison.Ordinal);
    }
}
