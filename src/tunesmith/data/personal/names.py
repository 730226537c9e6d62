"""Common names and the words beside which names stand, in English and Chinese: enough for rules, no census."""

from __future__ import annotations

_GIVEN_NAMES = """
Aaron Abigail Adam Adrian Ahmed Aisha Alan Albert Alejandro Alex Alexander Alexandra Alfred Alice Alicia
Alison Amanda Amber Amelia Amir Amy Ana Andrea Andrew Angela Anita Ann Anna Anne Anthony Antonio Arjun
Arthur Ashley Barbara Ben Benjamin Beth Betty Beverly Bill Bob Brandon Brenda Brian Bruce Bryan Carl
Carla Carlos Carol Caroline Carolyn Catherine Charles Charlotte Cheryl Chloe Chris Christian Christina
Christine Christopher Cindy Claire Clara Craig Cynthia Daniel Daniela David Deborah Denise Dennis Diana
Diane Diego Donald Donna Dorothy Douglas Dylan Edward Elena Elizabeth Ella Emily Emma Eric Erica Ethan
Eugene Eva Evelyn Fatima Fiona Frances Francisco Frank Fred Gabriel Gary George Gerald Giulia Gloria
Gordon Grace Gregory Hannah Harold Harry Hassan Heather Helen Henry Howard Ian Ibrahim Irene Isabel
Isabella Ivan Jack Jacob Jacqueline James Jamie Jane Janet Janice Jason Javier Jean Jeffrey Jennifer
Jeremy Jerry Jesse Jessica Jesus Joan Joe Joel John Jonathan Jordan Jorge Jose Joseph Joshua Joyce Juan
Judith Judy Julia Julie Justin Karen Karl Kate Katherine Kathleen Katie Keith Kelly Kenneth Kevin
Kimberly Kyle Larry Laura Lauren Lawrence Leah Leo Leonard Leslie Linda Lisa Logan Lori Louis Louise
Lucas Lucia Lucy Luis Luke Madison Marco Margaret Maria Marie Marilyn Mario Marion Martha Martin Mary
Matthew Maya Megan Melissa Mia Michael Michelle Miguel Mohammed Monica Nancy Natalie Nathan Nicholas
Nicole Nina Noah Nora Norman Olga Oliver Olivia Oscar Pamela Patricia Patrick Paul Paula Pedro Peter
Philip Phillip Priya Rachel Rahul Ralph Raymond Rebecca Richard Robert Roger Ronald Rosa Rose Roy Russell
Ruth Ryan Samantha Samuel Sandra Sara Sarah Scott Sean Sergio Sharon Shirley Simon Sofia Sonia Sophia
Stephanie Stephen Steve Steven Susan Teresa Theresa Thomas Tim Timothy Tina Todd Tony Tyler Vanessa
Victor Victoria Vincent Virginia Walter Wayne Wendy William Yusuf Zachary Zoe
"""
GIVEN_NAMES = frozenset(_GIVEN_NAMES.split())

_ENGLISH_SURNAMES = """
Adler Barlow Carver Dalton Ellery Farrow Garner Holloway Ingram Jarvis Kendall Larkin Mercer Norwood
Osgood Parrish Quimby Ramsey Sutter Thorne Upton Vance Whitlock Yardley
"""
ENGLISH_SURNAMES = tuple(_ENGLISH_SURNAMES.split())
"""What stand-ins are called."""

CHINESE_SURNAMES = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈姚卢姜崔钟谭陆汪范金石廖贾夏韦"
    "付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔向汤"
)
_COMPOUND = "欧阳 司马 上官 诸葛 东方 皇甫 尉迟 公孙 慕容 令狐 宇文 司徒 夏侯"
COMPOUND_SURNAMES = tuple(_COMPOUND.split())

CHINESE_GIVEN = "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超秀霞平刚桂英华玉萍红建文辉力宁宇婷雪晨浩欣怡佳梓轩子涵"
"""What the given names of stand-ins are made of."""
