using System.Collections;
using System.Reflection;
using System.Runtime.CompilerServices;
using PciOperator.Core;
using PciOperator.Sandbox.Hosts;

namespace PciOperator.Host.Tests;

/// <summary>
/// Whatever the agent keeps of a claim or a device is there again after a restart: every property, also one that is added tomorrow.
/// </summary>
public class StateRoundTripTests
{
    private const string Address = "0000:5e:00.1";

    // What the journal itself checks when it reads: any other text will do for the rest.
    private static readonly Dictionary<string, object> Meaningful = new()
    {
        ["JournalEntry.FormatVersion"] = JournalEntry.CurrentFormat,
        ["DeviceRecord.FormatVersion"] = DeviceRecord.CurrentFormat,
        ["DeviceRecord.Address"] = Address,
    };

    // Each property has another value the second time, so that one of the two is not what it has when nothing is read.
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Every_property_of_a_journal_entry_is_written_and_read(int variant)
    {
        SimulatedHost host = LabHosts.Create();
        var written = (JournalEntry)Fill(typeof(JournalEntry), variant);
        new Journal(host.Files, SimulatedHost.StateDirectory).Save(host.Files, written);
        AssertSame(written, Assert.Single(new Journal(host.Files, SimulatedHost.StateDirectory).Load()), nameof(JournalEntry));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void Every_property_of_a_device_record_is_written_and_read(int variant)
    {
        SimulatedHost host = LabHosts.Create();
        var written = (DeviceRecord)Fill(typeof(DeviceRecord), variant);
        new DeviceMemory(host.Files, SimulatedHost.StateDirectory).Update(
            host.Files,
            written.StableId,
            PciAddress.Parse(Address),
            _ => written
        );
        var memory = new DeviceMemory(host.Files, SimulatedHost.StateDirectory);
        memory.Load();
        AssertSame(written, memory.Find(written.StableId, PciAddress.Parse(Address)), nameof(DeviceRecord));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    public void Every_property_of_a_device_that_is_asked_for_is_kept_in_its_entry(int variant)
    {
        var asked = (DeviceToTake)Fill(typeof(DeviceToTake), variant);
        var kept = new JournalDevice(asked, "vfio-pci");
        Assert.All(Settable(typeof(DeviceToTake)), p => Assert.Equal(p.GetValue(asked), p.GetValue(kept)));
    }

    private static object Fill(Type type, int variant, string where = "")
    {
        if (Nullable.GetUnderlyingType(type) is { } inner)
            return Fill(inner, variant, where);
        if (type == typeof(string))
            return $"{where.Replace('.', '-')}-{variant}";
        if (type == typeof(bool))
            return variant % 2 == 0;
        if (type == typeof(int))
            return 7 + variant;
        if (type == typeof(DateTimeOffset))
            return new DateTimeOffset(2026, 1, 2, 3, 4, 5, TimeSpan.Zero).AddHours(variant);
        if (type == typeof(PciAddress))
            return PciAddress.Parse($"0000:5e:00.{variant}");
        if (type == typeof(PciId))
            return new PciId((ushort)(0x8086 + variant));
        if (type.IsEnum)
            return Enum.GetValues(type).GetValue(variant % Enum.GetValues(type).Length)!;
        if (type.IsGenericType && type.GetGenericTypeDefinition() == typeof(IReadOnlyList<>))
        {
            var items = (IList)Activator.CreateInstance(typeof(List<>).MakeGenericType(type.GenericTypeArguments))!;
            items.Add(Fill(type.GenericTypeArguments[0], variant, where));
            items.Add(Fill(type.GenericTypeArguments[0], variant + 1, where));
            return items;
        }

        Assert.True(
            type.IsClass && type.Namespace!.StartsWith(nameof(PciOperator), StringComparison.Ordinal),
            $"{where}: this test can't make a {type.Name} yet"
        );
        object made = RuntimeHelpers.GetUninitializedObject(type);
        foreach (PropertyInfo property in Settable(type))
        {
            string name = $"{type.Name}.{property.Name}";
            property.SetValue(made, Meaningful.GetValueOrDefault(name) ?? Fill(property.PropertyType, variant, name));
        }

        return made;
    }

    private static void AssertSame(object? expected, object? actual, string where)
    {
        Assert.True(actual is not null, $"{where} is lost");
        if (expected is IList items)
        {
            var others = (IList)actual;
            Assert.Equal(items.Count, others.Count);
            for (int i = 0; i < items.Count; i++)
                AssertSame(items[i], others[i], $"{where}[{i}]");
        }
        else if (expected is string || expected!.GetType().IsValueType)
        {
            Assert.True(expected.Equals(actual), $"{where}: {expected} became {actual}");
        }
        else
        {
            foreach (PropertyInfo property in Settable(expected.GetType()))
                AssertSame(property.GetValue(expected), property.GetValue(actual), $"{where}.{property.Name}");
        }
    }

    private static IEnumerable<PropertyInfo> Settable(Type type) =>
        type.GetProperties(BindingFlags.Public | BindingFlags.Instance).Where(p => p.CanWrite);
}
