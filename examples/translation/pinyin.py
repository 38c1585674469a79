"""How the characters of the grammar are read, for readers and machines without Chinese."""

_READINGS = """
一yī 七qī 三sān 上shàng 不bù 两liǎng 个gè 么me 九jiǔ 也yě 书shū 买mǎi 了le 二èr 五wǔ 些xiē 亮liàng 什shén 他tā 们men
份fèn 会huì 伞sǎn 位wèi 你nǐ 便pián 信xìn 修xiū 做zuò 儿ér 八bā 公gōng 六liù 共gòng 写xiě 刀dāo 匹pǐ 医yī 十shí 卖mài
卡kǎ 友yǒu 只zhī 台tái 吃chī 吗ma 咖kā 哥gē 哪nǎ 商shāng 啡fēi 喜xǐ 喝hē 四sì 园yuán 土tǔ 在zài 场chǎng 块kuài 大dà
天tiān 女nǚ 奶nǎi 她tā 好hǎo 妈mā 妹mèi 子zi 学xué 孩hái 宜yi 家jiā 封fēng 小xiǎo 师shī 带dài 帮bāng 帽mào 店diàn 开kāi
张zhāng 影yǐng 很hěn 忙máng 快kuài 思sī 想xiǎng 意yì 我wǒ 扇shàn 打dǎ 找zhǎo 把bǎ 报bào 教jiāo 新xīn 旧jiù 明míng 昨zuó
有yǒu 朋péng 本běn 朵duǒ 条tiáo 杯bēi 果guǒ 校xiào 桌zhuō 椅yǐ 欢huān 每měi 比bǐ 水shuǐ 汽qì 没méi 治zhì 洗xǐ 漂piào
火huǒ 灯dēng 照zhào 爸bà 片piàn 牛niú 狗gǒu 猫māo 球qiú 生shēng 电diàn 画huà 白bái 的de 盏zhǎn 盒hé 看kàn 站zhàn 等děng
篮lán 糕gāo 红hóng 纸zhǐ 网wǎng 老lǎo 聪cōng 脑nǎo 花huā 苹píng 茶chá 蛋dàn 要yào 认rèn 识shi 谁shéi 豆dòu 贵guì 赛sài
跟gēn 车chē 辆liàng 这zhè 那nà 部bù 里lǐ 门mén 雨yǔ 顶dǐng 马mǎ 高gāo 鱼yú 鸟niǎo 鸡jī 黑hēi
"""

PINYIN = {entry[0]: entry[1:] for entry in _READINGS.split()}
"""Each character's reading in these sentences."""
