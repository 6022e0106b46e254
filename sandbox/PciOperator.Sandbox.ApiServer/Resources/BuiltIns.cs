namespace PciOperator.Sandbox.ApiServer.Resources;

/// <summary>The resources that every server has. They are stored as given; only their metadata is checked.</summary>
internal static class BuiltIns
{
    public const string CrdTable = "customresourcedefinitions.apiextensions.k8s.io";

    // The fields of an ObjectReference.
    private static readonly string[] Reference = ["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"];

    public static IReadOnlyList<ResourceType> All { get; } = Make();

    private static List<ResourceType> Make() =>
        [
            Core("Namespace", "namespaces", false, "ns", status: true, names: NameRule.Label),
            Core("Node", "nodes", false, "no", status: true, selectable: ["spec.unschedulable"]),
            Core(
                "Pod",
                "pods",
                true,
                "po",
                status: true,
                generation: true,
                selectable:
                [
                    "spec.nodeName",
                    "spec.restartPolicy",
                    "spec.schedulerName",
                    "spec.serviceAccountName",
                    "spec.hostNetwork",
                    "status.phase",
                    "status.podIP",
                    "status.nominatedNodeName",
                ]
            ),
            Core("Service", "services", true, "svc", status: true, names: NameRule.Rfc1035, selectable: ["spec.clusterIP", "spec.type"]),
            Core("ServiceAccount", "serviceaccounts", true, "sa"),
            Core("ConfigMap", "configmaps", true, "cm"),
            Core("Secret", "secrets", true, selectable: ["type"]),
            Core("ResourceQuota", "resourcequotas", true, "quota", status: true),
            Core("LimitRange", "limitranges", true, "limits"),
            Core("Endpoints", "endpoints", true, "ep"),
            Core("PersistentVolumeClaim", "persistentvolumeclaims", true, "pvc", status: true),
            Core("PersistentVolume", "persistentvolumes", false, "pv", status: true),
            CoreEvents(),
            EventsV1(),
            Of("coordination.k8s.io", "v1", "Lease", "leases", true),
            Of("apps", "v1", "Deployment", "deployments", true, "deploy", status: true, generation: true),
            Of("apps", "v1", "DaemonSet", "daemonsets", true, "ds", status: true, generation: true),
            Of("apps", "v1", "ReplicaSet", "replicasets", true, "rs", status: true, generation: true),
            Of("apps", "v1", "StatefulSet", "statefulsets", true, "sts", status: true, generation: true),
            Of("apps", "v1", "ControllerRevision", "controllerrevisions", true),
            Of("batch", "v1", "Job", "jobs", true, status: true, generation: true),
            Of("batch", "v1", "CronJob", "cronjobs", true, "cj", status: true, generation: true),
            Of("rbac.authorization.k8s.io", "v1", "Role", "roles", true, names: NameRule.PathSegment),
            Of("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", true, names: NameRule.PathSegment),
            Of("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", false, names: NameRule.PathSegment),
            Of("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", false, names: NameRule.PathSegment),
            Of("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", true, "netpol", generation: true),
            Of("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", true, "pdb", status: true, generation: true),
            Of("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", false, "pc", generation: true),
            Of("storage.k8s.io", "v1", "StorageClass", "storageclasses", false, "sc"),
            Of("resource.k8s.io", "v1", "DeviceClass", "deviceclasses", false, generation: true),
            Of("resource.k8s.io", "v1", "ResourceClaim", "resourceclaims", true, status: true),
            Of("resource.k8s.io", "v1", "ResourceClaimTemplate", "resourceclaimtemplates", true),
            Of(
                "resource.k8s.io",
                "v1",
                "ResourceSlice",
                "resourceslices",
                false,
                generation: true,
                selectable: ["spec.driver", "spec.nodeName"]
            ),
            Of(
                "admissionregistration.k8s.io",
                "v1",
                "ValidatingAdmissionPolicy",
                "validatingadmissionpolicies",
                false,
                status: true,
                generation: true
            ),
            Of(
                "admissionregistration.k8s.io",
                "v1",
                "ValidatingAdmissionPolicyBinding",
                "validatingadmissionpolicybindings",
                false,
                generation: true
            ),
            Of(
                "admissionregistration.k8s.io",
                "v1",
                "ValidatingWebhookConfiguration",
                "validatingwebhookconfigurations",
                false,
                generation: true
            ),
            Of(
                "admissionregistration.k8s.io",
                "v1",
                "MutatingWebhookConfiguration",
                "mutatingwebhookconfigurations",
                false,
                generation: true
            ),
            Of(
                "apiextensions.k8s.io",
                "v1",
                "CustomResourceDefinition",
                "customresourcedefinitions",
                false,
                "crd,crds",
                status: true,
                generation: true
            ),
        ];

    private static ResourceType Core(
        string kind,
        string plural,
        bool namespaced,
        string shortNames = "",
        bool status = false,
        bool generation = false,
        NameRule names = NameRule.Subdomain,
        string[]? selectable = null
    ) => Of("", "v1", kind, plural, namespaced, shortNames, status, generation, names, selectable);

    private static ResourceType Of(
        string group,
        string version,
        string kind,
        string plural,
        bool namespaced,
        string shortNames = "",
        bool status = false,
        bool generation = false,
        NameRule names = NameRule.Subdomain,
        string[]? selectable = null
    ) =>
        new()
        {
            Group = group,
            Version = version,
            Kind = kind,
            Plural = plural,
            Singular = kind.ToLowerInvariant(),
            Namespaced = namespaced,
            ShortNames = shortNames.Length == 0 ? [] : shortNames.Split(','),
            Categories = kind is "Pod" or "Service" or "Deployment" or "DaemonSet" or "ReplicaSet" or "StatefulSet" or "Job" or "CronJob"
                ? ["all"]
                : [],
            HasStatus = status,
            HasGeneration = generation,
            AllowsUnconditionalUpdate = kind is not ("Lease" or "ResourceSlice" or "CustomResourceDefinition"),
            Names = names,
            SelectableFields = (selectable ?? []).ToDictionary(f => f, StringComparer.Ordinal),
        };

    private static ResourceType CoreEvents() =>
        new()
        {
            Group = "",
            Version = "v1",
            Kind = "Event",
            Plural = "events",
            Singular = "event",
            Namespaced = true,
            ShortNames = ["ev"],
            AllowsUnconditionalUpdate = true,
            Table = "events",
            SelectableFields = Reference
                .Select(f => "involvedObject." + f)
                .Concat(["reason", "reportingComponent", "source", "type"])
                .ToDictionary(f => f, f => f == "source" ? "source.component" : f, StringComparer.Ordinal),
        };

    private static ResourceType EventsV1() =>
        new()
        {
            Group = "events.k8s.io",
            Version = "v1",
            Kind = "Event",
            Plural = "events",
            Singular = "event",
            Namespaced = true,
            ShortNames = ["ev"],
            AllowsUnconditionalUpdate = true,
            Table = "events",
            ToStored = Events.ToCore,
            FromStored = Events.FromCore,
            SelectableFields = Reference
                .ToDictionary(f => "regarding." + f, f => "involvedObject." + f, StringComparer.Ordinal)
                .Concat([new("reason", "reason"), new("reportingController", "reportingComponent"), new("type", "type")])
                .ToDictionary(StringComparer.Ordinal),
        };
}
