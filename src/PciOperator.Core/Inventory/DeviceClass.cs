using System.Text;

namespace PciOperator.Core;

/// <summary>
/// Everything of a device that an alias can ask for. Devices of one class are the same to every alias, so an alias is
/// matched against classes, not devices. Equal classes of different nodes are equal.
/// </summary>
internal sealed class DeviceClass : IEquatable<DeviceClass>
{
    private readonly PciId _vendorId;
    private readonly PciId _productId;
    private readonly DeviceType _type;
    private readonly DeviceTags _tags;
    private readonly string _resourceClass;
    private readonly int _hash;

    public DeviceClass(PciFunction f, DeviceTags tags)
    {
        (_vendorId, _productId, _type, _tags) = (f.VendorId, f.ProductId, f.Type, tags);
        _resourceClass = tags.ResourceClass ?? ResourceClass.Default(_vendorId, _productId);
        var text = new StringBuilder();
        text.Append(_vendorId)
            .Append(_productId)
            .Append((char)('0' + (int)_type))
            .Append(tags.Trusted ? 't' : '-')
            .Append(tags.RemoteManaged ? 'r' : '-')
            .Append(
                tags.LiveMigratable switch
                {
                    true => 'y',
                    false => 'n',
                    null => '-',
                }
            )
            .Append(tags.PhysicalNetwork?.ToLowerInvariant())
            .Append('\n')
            .Append(_resourceClass);
        foreach (string trait in tags.Traits)
            text.Append('\n').Append(trait);
        foreach ((string key, string value) in tags.Other.OrderBy(p => p.Key, StringComparer.Ordinal))
            text.Append("\n\n").Append(key).Append('\n').Append(value.ToLowerInvariant());
        Key = text.ToString();
        _hash = Key.GetHashCode(StringComparison.Ordinal);
    }

    /// <summary>A text that two classes share exactly when they are equal; also their order.</summary>
    public string Key { get; }

    /// <summary>Whether devices of this class are what the alias asks for.</summary>
    public bool Matches(AliasDefinition alias) => Matches(alias, anyType: false);

    private bool Matches(AliasDefinition alias, bool anyType)
    {
        if (alias.LiveMigratable is { } live && _tags.LiveMigratable != live)
            return false;
        IReadOnlyList<AliasSelector> anyOf = alias.AnyOf;
        for (int i = 0; i < anyOf.Count; i++)
        {
            if (Matches(anyOf[i], anyType))
                return true;
        }

        return false;
    }

    /// <summary>
    /// The type of this class, where that alone keeps it from being what the alias asks for; null: it matches, or differs otherwise too.
    /// </summary>
    public DeviceType? OtherTypeOf(AliasDefinition alias) =>
        !Matches(alias, anyType: false) && Matches(alias, anyType: true) ? _type : null;

    public bool Equals(DeviceClass? other) => other is not null && _hash == other._hash && Key == other.Key;

    public override bool Equals(object? obj) => Equals(obj as DeviceClass);

    public override int GetHashCode() => _hash;

    private bool Matches(AliasSelector s, bool anyType)
    {
        bool wanted = anyType || (s.Type is { } t ? _type == t : _type is DeviceType.Pci or DeviceType.Vf);
        return wanted
            && (s.VendorId is not { } vendor || vendor == _vendorId)
            && (s.ProductId is not { } product || product == _productId)
            && (s.RemoteManaged ?? false) == _tags.RemoteManaged
            && (s.Trusted is not { } trusted || trusted == _tags.Trusted)
            && (s.LiveMigratable is not { } live || live == _tags.LiveMigratable)
            && (s.PhysicalNetwork is null || string.Equals(s.PhysicalNetwork, _tags.PhysicalNetwork, StringComparison.OrdinalIgnoreCase))
            && (s.ResourceClass is null || s.ResourceClass == _resourceClass)
            && (s.Traits.Count == 0 || HasTraits(s.Traits))
            && (s.Tags.Count == 0 || HasTags(s.Tags));
    }

    private bool HasTraits(IReadOnlyList<string> wanted)
    {
        foreach (string trait in wanted)
        {
            if (!_tags.Traits.Contains(trait, StringComparer.Ordinal))
                return false;
        }

        return true;
    }

    private bool HasTags(IReadOnlyDictionary<string, string> wanted)
    {
        foreach ((string key, string value) in wanted)
        {
            if (!_tags.Other.TryGetValue(key, out string? has) || !string.Equals(has, value, StringComparison.OrdinalIgnoreCase))
                return false;
        }

        return true;
    }
}
